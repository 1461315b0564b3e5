"""Frames: the ten-byte header and what follows it.

    0      4          8     9      10
    +------+----------+-----+------+---------
    | size | stream id| type| flags| data …      big-endian; size counts the data alone
    +------+----------+-----+------+---------

The limit of 4 MiB is what keeps one bad peer from taking our memory, so it is enforced before a byte of data is
kept: the decoder is in one of three states, HEADER, BODY(n) and DISCARD(n), and in DISCARD it counts bytes and
stores none. An oversized frame is no reason to give up the connection: the sender may have a hundred good calls on
it. It comes out as Oversized, in its place among the frames, once its last byte has gone by.

Pure: no sockets, no clock. Source: containerd/ttrpc PROTOCOL.md, channel.go.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from shim.errors import ResourceExhausted

__all__ = [
    "DATA",
    "HEADER_SIZE",
    "MAX_DATA",
    "NO_DATA",
    "REMOTE_CLOSED",
    "REMOTE_OPEN",
    "REQUEST",
    "RESPONSE",
    "Frame",
    "FrameDecoder",
    "Oversized",
    "encode_frame",
]

HEADER_SIZE: Final = 10
MAX_DATA: Final = 4 << 20

# Types. All others are reserved, and ignored by whoever does not know them.
REQUEST: Final = 1
RESPONSE: Final = 2
DATA: Final = 3

# Flags.
REMOTE_CLOSED: Final = 0x01  # the sender sends no more on this stream
REMOTE_OPEN: Final = 0x02  # the sender of a request goes on with data frames
NO_DATA: Final = 0x04  # a data frame that is no message; without it, zero bytes are an empty message

_HEADER = struct.Struct(">IIBB")


class Frame(NamedTuple):
    """One whole frame."""

    stream_id: int
    type: int
    flags: int
    data: bytes


class Oversized(NamedTuple):
    """A frame that was larger than MAX_DATA and has been thrown away."""

    stream_id: int
    type: int
    flags: int
    size: int


def encode_frame(stream_id: int, type_: int, flags: int, data: bytes) -> bytes:
    """The frame as it goes over the wire.

    Raises:
        ResourceExhausted: ``data`` is larger than MAX_DATA. Nothing was sent; the stream is as it was.
    """
    if len(data) > MAX_DATA:
        raise ResourceExhausted(f"message of {len(data)} bytes is larger than the limit of {MAX_DATA}")
    return _HEADER.pack(len(data), stream_id, type_, flags) + data


class FrameDecoder:
    """Bytes in any portions in, frames out. Holds at most one unfinished frame, and never an oversized one."""

    __slots__ = ("_buffer", "_discard", "_need", "_oversized")

    def __init__(self) -> None:
        self._buffer = bytearray()  # the beginning of a frame, empty in DISCARD
        self._need = HEADER_SIZE  # the buffer is not worth a look before it has grown to this
        self._discard = 0  # bytes of _oversized yet to come; more than 0 is the state DISCARD
        self._oversized: Oversized | None = None

    @property
    def buffered(self) -> int:
        """Bytes held for the frame that is not complete yet."""
        return len(self._buffer)

    @property
    def at_boundary(self) -> bool:
        """Whether the stream may end here: no frame has begun and not ended."""
        return not self._buffer and not self._discard

    def feed(self, data: bytes) -> list[Frame | Oversized]:
        """The frames that ``data`` completes, in order."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        frames: list[Frame | Oversized] = []
        position, end = 0, len(data)
        while position < end:
            if self._discard:
                position = self._skip(position, end, frames)
                continue
            if end - position < HEADER_SIZE:
                self._keep(data, position, HEADER_SIZE)
                break
            size, stream_id, type_, flags = _HEADER.unpack_from(data, position)
            position += HEADER_SIZE
            if size > MAX_DATA:
                self._oversized, self._discard = Oversized(stream_id, type_, flags, size), size
            elif end - position < size:
                self._keep(data, position - HEADER_SIZE, HEADER_SIZE + size)
                break
            else:
                frames.append(Frame(stream_id, type_, flags, data[position : position + size]))
                position += size
        return frames

    def _keep(self, data: bytes, position: int, need: int) -> None:
        self._buffer += data[position:]
        self._need = need

    def _skip(self, position: int, end: int, frames: list[Frame | Oversized]) -> int:
        skipped = min(self._discard, end - position)
        self._discard -= skipped
        if not self._discard and self._oversized is not None:
            frames.append(self._oversized)
            self._oversized = None
        return position + skipped
