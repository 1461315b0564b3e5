"""What can be registered as a plugin, and what is told of it."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.catalog import Plugin
from shim.catalog.names import canonical_version, version_order
from shim.catalog.plugins import TYPES, validate_type
from shim.errors import InvalidArgument

SHA = "ab" * 32


def registered(**members):
    plugin, unknown = Plugin.from_input("secret", "p1", {"sha256": SHA, "command": "p", **members})
    assert unknown == []
    return plugin


def refused(**members):
    with pytest.raises(InvalidArgument) as raised:
        Plugin.from_input("secret", "p1", {"sha256": SHA, "command": "p", **members})
    return str(raised.value)


def test_all_of_it():
    plugin = registered(
        command="/bin/p",
        args=["-a", "b\nc"],
        env=["A=1", "EMPTY="],
        oci_image="registry/p",
        runtime="r1",
        version="1.2",
    )
    assert plugin.to_data() == {
        "name": "p1",
        "args": ["-a", "b\nc"],
        "command": "/bin/p",
        "sha256": SHA,
        "builtin": False,
        "version": "v1.2.0",
        "oci_image": "registry/p",
        "runtime": "r1",
    }
    assert plugin.env == ("A=1", "EMPTY=")
    assert Plugin.from_record(plugin.to_record()) == plugin


def test_what_it_does_not_have_is_not_told_of_it():
    assert registered().to_data().keys() == {"name", "args", "command", "sha256", "builtin", "version"}


def test_its_environment_is_told_to_nobody():
    plugin = registered(env=["PASSWORD=secret"])
    assert "secret" not in repr(plugin.to_data()) + repr({**plugin.to_summary(), "type": ""})
    assert "env" not in plugin.to_data().keys() | plugin.to_summary().keys()
    for env in (
        ["=secret"],
        ["secret"],
        ["A=1", "secret"],
        "secret",
        ["a=secret\0"],
        [["secret"]],
        {"secret": 1},
    ):
        assert "secret" not in refused(env=env)


def test_what_means_nothing_is_reported():
    _, unknown = Plugin.from_input(
        "auth", "p", {"sha256": SHA, "command": "p", "type": 3, "name": 4, "zz": 5}
    )
    assert unknown == ["zz"]


def test_the_digest_has_two_names_and_64_digits():
    plugin, _ = Plugin.from_input("auth", "p", {"sha_256": SHA.upper(), "command": "p"})
    assert plugin.sha256 == SHA
    for digest in ("", None):
        assert refused(sha256=digest) == "missing SHA-256 value"
    for digest in ("xy" * 32, SHA[2:], SHA + "ab", f"sha256:{SHA}", f"{SHA}\n"):
        assert refused(sha256=digest)
    assert refused(sha_256="cd" * 32).endswith("are two names of one, and differ")


def test_a_command_or_an_image_is_needed():
    assert refused(command="") == "must provide at least one of command or oci_image"
    assert registered(command="", oci_image="image").command == ""


@pytest.mark.parametrize("image", ["registry/p:1.0", "localhost:5000/p", f"p@sha256:{SHA}"])
def test_an_image_is_a_name_without_a_tag(image):
    assert refused(oci_image=image).endswith("must have neither tag nor digest: these are version and sha256")


def test_arguments_may_be_part_of_the_command_but_not_both():
    assert (registered(command="p -x -y").command, registered(command="p -x -y").args) == ("p", ("-x", "-y"))
    assert refused(command="p -x", args=["-y"]) == "must not specify args in command and args field"


@pytest.mark.parametrize("value", [5, ["a", 5], {"a": 1}, [["a"]], True])
def test_what_is_no_list_of_texts(value):
    assert refused(args=value) == 'error converting input for field "args": a list of texts is needed'


def test_a_text_is_a_list_of_one():
    assert registered(args="-x").args == ("-x",)
    assert registered(args="").args == ()


@pytest.mark.parametrize("kind", TYPES)
def test_types(kind):
    assert validate_type(kind) == kind


@pytest.mark.parametrize("kind", ["", "unknown", "Auth", "container"])
def test_what_is_no_type(kind):
    with pytest.raises(InvalidArgument, match=f'^"{kind}" is not a supported plugin type$'):
        Plugin.from_input(kind, "p", {})


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        ("1", "v1.0.0"),
        ("v1.2", "v1.2.0"),
        ("1.2.3", "v1.2.3"),
        ("v01.002.3", "v1.2.3"),
        ("1.2.3-rc.1+build.5", "v1.2.3-rc.1+build.5"),
        ("1-beta", "v1.0.0-beta"),
        ("1.0.0+builtinx", "v1.0.0+builtinx"),
    ],
)
def test_versions(text, canonical):
    assert registered(version=text).version == canonical
    assert canonical_version(canonical) == canonical


@pytest.mark.parametrize(
    "text", ["x", "1.2.3.4", "v", "1.", "1.2.3-", "1.2.3+", " 1", "1\n", "vv1", "-1", "1..2"]
)
def test_what_is_no_version(text):
    assert "version" in refused(version=text)


@pytest.mark.parametrize("text", ["1.0.0+builtin", "v1.2.3-rc+builtin.vault", "1+x.builtin"])
def test_reserved_versions(text):
    assert refused(version=text).endswith(
        "is not allowed because 'builtin' is a reserved metadata identifier"
    )


def test_versions_have_an_order():
    """That of semver.org, where metadata does not count."""
    ordered = [
        "", "v0.9.0", "v1.0.0-1", "v1.0.0-2", "v1.0.0-10", "v1.0.0-alpha", "v1.0.0-alpha.1", "v1.0.0-alpha.beta",
        "v1.0.0-beta.2", "v1.0.0-beta.11", "v1.0.0-rc.1", "v1.0.0", "v1.0.0+a", "v1.0.1", "v1.2.0", "v1.10.0", "v2.0.0",
    ]  # fmt: skip
    assert all(version_order(a) < version_order(b) for a, b in pairwise(ordered))


VERSION = st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}){0,2}(-[0-9a-z.-]{1,6})?(\+[0-9a-z.]{1,5})?\Z")


@given(st.lists(VERSION | st.text(max_size=8), max_size=5))
def test_any_text_is_a_version_or_an_error_and_all_versions_compare(texts):
    found = []
    for text in texts:
        try:
            found.append(canonical_version(text))
        except InvalidArgument:
            continue
    for a, b in product(found, found):
        assert (version_order(a) < version_order(b)) + (version_order(a) > version_order(b)) == (a != b)
