"""Layers, looked through: hostile ones, damaged ones, and those that are too large."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from io import BufferedReader, BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oci_images import layer, member

from shim.errors import InvalidArgument, ResourceExhausted, ShimError
from shim.image.layer import look_through
from shim.image.limits import Limits

SMALL = Limits(unpacked=1 << 20, entries=100, header=1 << 16)


def look(data, limits=SMALL):
    return look_through(BufferedReader(BytesIO(data)), "layer 1", limits, lambda _: None)


def test_what_is_in_it_is_counted():
    data = layer({"a": b"x" * 1000, "b": "a", "c/d": b""})
    found = look(data)
    assert (found.entries, found.size, found.is_gzip) == (3, len(data), False)
    assert found.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    packed = look(gzip.compress(data))
    assert (packed.digest, packed.is_gzip) == (found.digest, True)


def test_gzip_in_several_members_is_one_stream():
    data = layer({"a": b"x" * 1000})
    assert look(gzip.compress(data[:700]) + gzip.compress(data[700:])).digest == look(data).digest


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_both_kinds(form):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        tar.addfile(member("é/" + "n" * 250 + "/x" * 100)[0])
        tar.addfile(member("l", kind=tarfile.SYMTYPE, linkname="t" * 300)[0])
    assert look(out.getvalue()).entries == 2


def test_directories_may_come_twice_and_nothing_else():
    folder = member("a", kind=tarfile.DIRTYPE)
    assert look(layer([folder, member("a/b"), folder])).entries == 3
    for again in (member("a/b"), member("./a//b"), member("a/b", kind=tarfile.SYMTYPE, linkname="c")):
        with pytest.raises(InvalidArgument, match=r"layer 1, entry '.*b' is refused: it comes twice"):
            look(layer([folder, member("a/b"), again]))


def test_a_refusal_names_the_entry_and_shows_no_control_characters():
    with pytest.raises(InvalidArgument, match=r"^layer 1, entry 'a\\x1b\[2J/\.\./b' is refused: .*'\.\.'"):
        look(layer([member("ok"), member("a\x1b[2J/../b")]))


@pytest.mark.parametrize("cut", [1, 100, 511, 512, 600, 1500])
def test_cut_short(cut):
    whole = layer({"a": b"x" * 1000, "b": b"y"})
    if cut != 1500:  # between the data of an entry and the next header no tar ends by itself
        with pytest.raises(InvalidArgument, match="damaged"):
            look(whole[:cut])
    with pytest.raises(InvalidArgument, match="damaged"):
        look(gzip.compress(whole)[:-cut])


def test_a_damaged_header_is_not_the_end():
    """tarfile takes it for one; what is behind it would be unpacked by others, and never looked at."""
    first = layer([member("a")])[:512]
    rest = layer([member("../evil")])
    with pytest.raises(InvalidArgument, match="goes on where it ends"):
        look(first + b"x" * 512 + rest)
    with pytest.raises(InvalidArgument, match="goes on where it ends"):
        look(layer([member("a")]) + rest)
    assert look(layer([member("a")]) + bytes(5000)).entries == 1


def test_headers_for_all_entries():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "../x"}) as tar:
        tar.addfile(member("a")[0])
    with pytest.raises(InvalidArgument, match="header for all entries"):
        look(out.getvalue())


def test_sparse_entries():
    info, _ = member("x")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "y"}
    with pytest.raises(InvalidArgument):
        look(layer([(info, b"")]))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_never_ends_is_not_read(kind):
    head = member("x", kind=kind, size=8 << 30)[0]
    with pytest.raises(InvalidArgument, match="header of an entry is longer than 65536"):
        look(head.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_headers_of_headers():
    head = member("x", kind=tarfile.XHDTYPE)[0].tobuf()
    with pytest.raises(InvalidArgument):
        look(head * 4000)


@pytest.mark.parametrize("size", [-1, -512, -5000])
def test_a_negative_size(size):
    raw = bytearray(member("x")[0].tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = size.to_bytes(12, "big", signed=True)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    with pytest.raises(InvalidArgument):
        look(bytes(raw) + bytes(2048))


def test_limits():
    assert look(layer({str(n): b"" for n in range(100)})).entries == 100
    with pytest.raises(ResourceExhausted, match="more than 100 entries"):
        look(layer({str(n): b"" for n in range(101)}))
    with pytest.raises(ResourceExhausted, match="more than 1048576 bytes"):
        look(layer({"a": bytes(1 << 20)}))


def test_a_gzip_bomb_is_stopped_long_before_its_end():
    head = member("bomb", size=1 << 40)[0].tobuf(tarfile.GNU_FORMAT)
    bomb = gzip.compress(head) + gzip.compress(bytes(16 << 20)) * 64  # a GiB in a MiB
    source = BufferedReader(BytesIO(bomb))
    with pytest.raises(ResourceExhausted):
        look_through(source, "layer 1", SMALL, lambda _: None)
    assert source.tell() < len(bomb) / 4


SEED = layer(
    [
        member("a/" + "n" * 120, b"data"),
        member("b", kind=tarfile.SYMTYPE, linkname="m" * 120),
        member("c", b"x" * 600, pax_headers={"SCHILY.xattr.user.a": "b", "mtime": "1.5"}),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20))
def test_whatever_is_in_it_nothing_but_our_errors_comes_out(seed, count):
    chance = random.Random(seed)
    data = bytearray(SEED)
    for _ in range(count):
        data[chance.randrange(len(data))] = chance.choice([0, 0x37, 0x78, 0xFF, chance.randrange(256)])
    if chance.random() < 0.8:  # most headers with a right sum, or nothing else would be looked at
        for start in range(0, len(data) - 512, 512):
            if data[start + 257 : start + 262] == b"ustar":
                data[start + 148 : start + 156] = b" " * 8
                data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    try:
        look(bytes(data))
    except ShimError as error:
        assert str(error).startswith("layer 1")  # noqa: PT017 - it may also pass
