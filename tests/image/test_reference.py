"""Names and digests of images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.image.reference import Reference, parse_digest, parse_name, parse_reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("busybox", "busybox:latest"),
        ("busybox:1.36", "busybox:1.36"),
        ("docker.io/library/busybox", "busybox:latest"),
        ("library/busybox:1", "busybox:1"),
        ("index.docker.io/library/busybox:1", "busybox:1"),
        ("docker.io/hashicorp/vault-plugin-auth-jwt:0.16.0", "hashicorp/vault-plugin-auth-jwt:0.16.0"),
        ("docker.io/library/a/b", "library/a/b:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:2", "localhost:5000/x:2"),
        ("ocishim.test/a__b/c-d.e:T_1", "ocishim.test/a__b/c-d.e:T_1"),
        ("HOST/x", "HOST/x:latest"),
    ],
)
def test_names_as_they_are_kept(text, kept):
    assert parse_name(text) == kept
    assert parse_name(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":",
            "a:",
            "A",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a b",
            "a:b:c",
            "-a",
            "a\n",
            "a:b\n",
            "é",
            "a@b",
            "a/B",
        ),
        *("containerd://a/b", "h.x:port/a", "a:" + "t" * 129, "x" * 256),
    ],
)
def test_what_is_no_name(text):
    with pytest.raises(InvalidArgument, match="is no name of an image"):
        parse_name(text)


def test_digests():
    assert parse_digest(HEX) == parse_digest(f"sha256:{HEX}") == f"sha256:{HEX}"
    for text in (
        "",
        "sha256:",
        "sha256:aa",
        HEX.upper(),
        f"sha512:{HEX}",
        f"sha256:{HEX}\n",
        f"sha256:{HEX}0",
    ):
        with pytest.raises(InvalidArgument, match="is no digest"):
            parse_digest(text)


def test_references():
    digest = f"sha256:{HEX}"
    assert parse_reference("a:1") == Reference("a:1")
    assert parse_reference(digest) == Reference(digest=digest)
    assert parse_reference(f"docker.io/library/a@{digest}") == Reference("a:latest", digest)
    # A plain digest is a name that somebody may have given.
    assert parse_reference(HEX) == Reference(f"{HEX}:latest")
    with pytest.raises(InvalidArgument):
        parse_reference("a@1")


@given(st.text(max_size=40) | st.from_regex(r"[a-zA-Z0-9./:_-]{0,40}"))
def test_a_name_is_refused_or_stays_as_it_is_kept(text):
    try:
        kept = parse_name(text)
    except InvalidArgument:
        return
    assert parse_name(kept) == kept
    assert kept.isascii()
    assert kept.isprintable()
    assert ".." not in kept.split("/")
