"""What an entry of a layer may be."""

from __future__ import annotations

import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oci_images import member

from shim.image.rules import refusal

SYM, LNK, DIR, CHR, BLK, FIFO = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.DIRTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)


def why(name, data=b"", **fields):
    return refusal(member(name, data, **fields)[0])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("etc/passwd", {}),
        ("./etc/passwd", {}),
        (".", {"kind": DIR}),
        ("bin/su", {"mode": 0o4755}),
        ("a..b/..c/d..", {}),
        ("bin/sh", {"kind": SYM, "linkname": "/bin/busybox"}),
        ("etc/mtab", {"kind": SYM, "linkname": "../proc/self/mounts"}),
        ("a/b/c", {"kind": SYM, "linkname": "../../x"}),
        ("a/b", {"kind": LNK, "linkname": "bin/busybox"}),
        ("pipe", {"kind": FIFO}),
        ("a/.wh.b", {}),
        (".wh..wh..opq", {}),
        ("a/.wh..wh..opq", {}),
        (".wh..hidden", {}),
        ("a" * 255, {}),
    ],
)
def test_what_is_taken(name, fields):
    assert why(name, **fields) == ""


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("../x", {}, "'..'"),
        (".", {"kind": SYM, "linkname": "/"}, "place of the root directory"),
        ("./", {"kind": LNK, "linkname": "a"}, "place of the root directory"),
        ("a/../b", {}, "'..'"),
        ("a/..", {"kind": DIR}, "'..'"),
        ("/etc/passwd", {}, "absolute"),
        ("dev/sda", {"kind": BLK}, "device"),
        ("dev/null", {"kind": CHR}, "device"),
        ("a" * 256, {}, "too long"),
        ("a/" * 2048 + "a", {}, "too long"),
        ("a\0b", {}, "NUL"),
        ("x", {"kind": SYM, "linkname": "../x"}, "leads out"),
        ("a/x", {"kind": SYM, "linkname": "../b/../../x"}, "leads out"),
        ("x", {"kind": SYM, "linkname": "/../x"}, "leads out"),
        ("x", {"kind": SYM, "linkname": ""}, "nothing that there can be"),
        ("x", {"kind": SYM, "linkname": "a\0"}, "nothing that there can be"),
        ("x", {"kind": LNK, "linkname": "/etc/shadow"}, "leads out"),
        ("x", {"kind": LNK, "linkname": "a/../../etc/shadow"}, "leads out"),
        ("x", {"kind": LNK, "linkname": "a/.wh.b"}, "whiteout"),
        (".wh.", {}, "whiteout of nothing"),
        ("a/.wh..", {}, "whiteout of nothing"),
        (".wh...", {}, "whiteout of nothing"),
        (".wh.../x", {}, "below a whiteout"),
        (".wh.a/x", {}, "below a whiteout"),
        (".wh..wh.aufs", {}, "whiteout of nothing"),
        (".wh.a", {"kind": SYM, "linkname": "b"}, "no empty file"),
        (".wh.a", {"data": b"x"}, "no empty file"),
        ("x", {"kind": b"S"}, "a kind"),
        ("x", {"kind": b"V"}, "a kind"),
        ("x", {"pax_headers": {"GNU.sparse.major": "1"}}, "a kind"),
        ("x", {"pax_headers": {"SCHILY.xattr.trusted.overlay.redirect": "/"}}, "trusted"),
    ],
)
def test_what_is_refused(name, fields, said):
    assert said in why(name, **fields)


@given(
    st.lists(st.sampled_from(["a", "..", ".", "", "b"]), min_size=1, max_size=6).map("/".join),
    st.lists(st.sampled_from(["a", "..", ".", "", "b"]), min_size=1, max_size=6).map("/".join),
    st.sampled_from([SYM, LNK]),
)
def test_no_link_that_is_taken_leads_out(name, target, kind):
    if why(name, kind=kind, linkname=target):
        return
    begin = "/image/" + ("" if kind == LNK or target.startswith("/") else os.path.dirname(name))
    for place in (f"/image/{name}", f"{begin}/{target}"):
        assert f"{os.path.normpath(place)}/".startswith("/image/")
