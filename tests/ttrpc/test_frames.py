"""Frames survive any cut, and an oversized one is never kept."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.errors import ResourceExhausted
from shim.ttrpc.frames import (
    DATA,
    HEADER_SIZE,
    MAX_DATA,
    REQUEST,
    Frame,
    FrameDecoder,
    Oversized,
    encode_frame,
)

frames = st.builds(
    Frame,
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=300),
)


def encoded(frame: Frame) -> bytes:
    return encode_frame(*frame)


def header(size: int, stream_id: int = 1, type_: int = REQUEST, flags: int = 0) -> bytes:
    return struct.pack(">IIBB", size, stream_id, type_, flags)


def fed(decoder: FrameDecoder, portions) -> list:
    return [item for portion in portions for item in decoder.feed(portion)]


def test_the_layout_is_the_one_of_the_protocol():
    wire = encode_frame(0x01020304, 3, 5, b"xyz")
    assert wire == bytes([0, 0, 0, 3, 1, 2, 3, 4, 3, 5]) + b"xyz"
    assert len(wire) == HEADER_SIZE + 3


@settings(deadline=None)
@given(st.lists(frames, max_size=8), st.data())
def test_any_cut_gives_the_same_frames(sent, data):
    wire = b"".join(map(encoded, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    decoder = FrameDecoder()
    portions = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert fed(decoder, portions) == sent
    assert decoder.at_boundary


def test_every_single_cut_and_byte_by_byte():
    sent = [Frame(1, 1, 0, b"request"), Frame(3, 3, 5, b""), Frame(2**32 - 1, 9, 255, bytes(range(256)))]
    wire = b"".join(map(encoded, sent))
    for cut in range(len(wire) + 1):
        assert fed(FrameDecoder(), [wire[:cut], wire[cut:]]) == sent
    assert fed(FrameDecoder(), (wire[i : i + 1] for i in range(len(wire)))) == sent


@pytest.mark.parametrize("cut", [1, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 1])
def test_no_boundary_inside_a_frame(cut):
    decoder = FrameDecoder()
    decoder.feed(encode_frame(1, 1, 0, b"data")[:cut])
    assert not decoder.at_boundary


def test_the_limit_itself_is_allowed():
    data = b"x" * MAX_DATA
    wire = encode_frame(1, REQUEST, 0, data)
    decoder = FrameDecoder()
    assert fed(decoder, (wire[i : i + 65536] for i in range(0, len(wire), 65536))) == [Frame(1, 1, 0, data)]
    assert decoder.buffered == 0


def test_one_byte_more_is_not_sent():
    with pytest.raises(ResourceExhausted, match=f"{MAX_DATA + 1} bytes .* limit of {MAX_DATA}"):
        encode_frame(1, REQUEST, 0, b"x" * (MAX_DATA + 1))


def test_an_oversized_frame_comes_out_in_its_place():
    size = MAX_DATA + 1
    wire = encode_frame(1, 1, 0, b"before") + header(size, 3) + bytes(size) + encode_frame(5, 1, 0, b"after")
    assert FrameDecoder().feed(wire) == [
        Frame(1, 1, 0, b"before"),
        Oversized(3, 1, 0, size),
        Frame(5, 1, 0, b"after"),
    ]


@settings(deadline=None, max_examples=30)
@given(st.integers(MAX_DATA + 1, MAX_DATA + 100_000), st.lists(st.integers(1, 200_000), min_size=1), frames)
def test_discard_never_buffers(size, steps, following):
    decoder = FrameDecoder()
    assert decoder.feed(header(size, 7, DATA, 1)) == []
    left = size
    items: list = []
    for step in [*steps, size]:
        portion = min(step, left)
        left -= portion
        items += decoder.feed(bytes(portion))
        assert decoder.buffered == 0
        assert decoder.at_boundary == (left == 0)
        if not left:
            break
    assert items == [Oversized(7, DATA, 1, size)]
    assert decoder.feed(encoded(following)) == [following]


def test_the_largest_announcement_costs_nothing():
    decoder = FrameDecoder()
    decoder.feed(header(2**32 - 1))
    for _ in range(64):
        assert decoder.feed(bytes(65536)) == []
        assert decoder.buffered == 0


@settings(deadline=None)
@given(st.lists(st.binary(max_size=64)))
def test_garbage_raises_nothing_and_is_bounded(portions):
    decoder = FrameDecoder()
    fed(decoder, portions)
    assert decoder.buffered <= sum(map(len, portions))
