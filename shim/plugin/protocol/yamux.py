"""yamux: many streams over one connection. Bytes in, events out; bytes to send are taken with ``outgoing``.

A frame is a header of 12 bytes, big endian: version, type, flags, stream id, length; after the header of a data frame come
as many bytes. Whoever connected opens streams with odd ids, the other with even ones. Each direction of a stream has a window
of 256 KiB, which data uses up and its reader's window updates open again. A stream begins with SYN, which is answered with
ACK or RST, and each side ends its own direction with FIN; RST ends both.

Only the peer's faults raise ``YamuxError``, after which the connection is of no use. What comes for a stream that is gone is
no fault: it was under way.

Source: hashicorp/yamux, spec.md; what that leaves open as its session.go and stream.go have it.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import TypeAlias

from shim.errors import Unavailable

__all__ = [
    "Data",
    "Event",
    "GoneAway",
    "Opened",
    "Reset",
    "Session",
    "Window",
    "YamuxError",
]

WINDOW = 256 * 1024

_HEADER = struct.Struct(">BBHII")
_VERSION = 0
_SESSION = 0
_BACKLOG = 256
_LARGEST_ID = 2**32 - 1
_LARGEST_WINDOW = 2**32 - 1


class Kind(IntEnum):
    """What a frame is."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """What a frame says beside its kind."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class YamuxError(Unavailable):
    """The peer does what it must not, or takes the connection down."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream; it is to be accepted or reset."""

    id: int


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes came; empty at the end of the peer's direction. ``consumed`` says that they were used."""

    id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Window:
    """More can be sent than before."""

    id: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream has ended at once, in both directions."""

    id: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer takes no more streams; those that there are go on."""


Event: TypeAlias = Opened | Data | Window | Reset | GoneAway


@dataclass(slots=True)
class _Stream:
    send_window: int = WINDOW
    receive_window: int = WINDOW
    unused: int = 0  # what was received and not yet consumed
    accepted: bool = True
    we_ended: bool = False
    peer_ended: bool = False


@dataclass(slots=True)
class _Body:
    """What is still to come of a data frame; of a stream that is gone it is thrown away."""

    id: int
    rest: int
    flags: Flag
    known: bool


@dataclass(slots=True)
class Session:
    """One end of a connection; ``client`` is the one that connected."""

    client: bool
    gone_away: bool = False
    _received: bytearray = field(default_factory=bytearray)
    _outgoing: bytearray = field(default_factory=bytearray)
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _body: _Body | None = None
    _next_id: int = 0
    _waiting: int = 0

    def __post_init__(self) -> None:
        self._next_id = 1 if self.client else 2

    def outgoing(self) -> bytes:
        """What is to be sent, once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def open(self) -> int:
        """A new stream's id.

        Raises:
            YamuxError: the peer takes no more, or all ids are used up.
        """
        if self.gone_away or self._next_id > _LARGEST_ID:
            raise YamuxError("no stream can be opened any more")
        stream_id, self._next_id = self._next_id, self._next_id + 2
        self._streams[stream_id] = _Stream()
        self._send(Kind.WINDOW_UPDATE, Flag.SYN, stream_id)
        return stream_id

    def accept(self, stream_id: int) -> None:
        """The stream, which the peer opened, is wanted."""
        if (stream := self._streams.get(stream_id)) is not None and not stream.accepted:
            stream.accepted = True
            self._waiting -= 1
            self._send(Kind.WINDOW_UPDATE, Flag.ACK, stream_id)

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        """So many of the first bytes of ``data`` are sent; for the rest there is a ``Window`` to come.

        Raises:
            YamuxError: the stream is gone, or was ended by us.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.we_ended:
            raise YamuxError(f"stream {stream_id} has ended")
        count = min(len(data), stream.send_window)
        if count:
            stream.send_window -= count
            self._send(Kind.DATA, Flag(0), stream_id, count)
            self._outgoing += data[:count]
        return count

    def consumed(self, stream_id: int, count: int) -> None:
        """So many bytes of what came were used, so that as many can come again."""
        if (stream := self._streams.get(stream_id)) is None:
            return
        stream.unused -= count
        # A frame for less than half of it would cost more than it brings.
        if (delta := WINDOW - stream.unused - stream.receive_window) >= WINDOW // 2 and not stream.peer_ended:
            stream.receive_window += delta
            self._send(Kind.WINDOW_UPDATE, Flag(0), stream_id, delta)

    def finish(self, stream_id: int) -> None:
        """We send no more on the stream."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.we_ended:
            return
        stream.we_ended = True
        self._send(Kind.WINDOW_UPDATE, Flag.FIN, stream_id)
        self._forget_ended(stream_id, stream)

    def reset(self, stream_id: int) -> None:
        """The stream has ended at once, in both directions."""
        if self._drop(stream_id):
            self._send(Kind.WINDOW_UPDATE, Flag.RST, stream_id)

    def go_away(self) -> None:
        """The peer is told that the connection ends."""
        self._send(Kind.GO_AWAY, Flag(0), _SESSION)

    def receive(self, data: bytes) -> list[Event]:
        """What ``data`` means.

        Raises:
            YamuxError: it is not yamux, or the peer takes the connection down.
        """
        self._received += data
        events: deque[Event] = deque()
        while self._step(events):
            pass
        return list(events)

    def _step(self, events: deque[Event]) -> bool:
        """Whether something was left to look at."""
        if self._body is not None:
            return self._take_body(self._body, events)
        if len(self._received) < _HEADER.size:
            return False
        version, kind, flags, stream_id, length = _HEADER.unpack_from(self._received)
        del self._received[: _HEADER.size]
        if version != _VERSION or kind not in Kind._value2member_map_:
            raise YamuxError(f"this is not yamux: version {version}, type {kind}")
        self._take_header(Kind(kind), Flag(flags), stream_id, length, events)
        return True

    def _take_header(
        self, kind: Kind, flags: Flag, stream_id: int, length: int, events: deque[Event]
    ) -> None:
        if kind is Kind.PING:
            if Flag.SYN in flags:
                self._send(Kind.PING, Flag.ACK, _SESSION, length)
        elif kind is Kind.GO_AWAY:
            if length:
                raise YamuxError(f"the peer takes the connection down for an error, {length}")
            self.gone_away = True
            events.append(GoneAway())
        else:
            self._take_stream_frame(kind, flags, stream_id, length, events)

    def _take_stream_frame(
        self, kind: Kind, flags: Flag, stream_id: int, length: int, events: deque[Event]
    ) -> None:
        if Flag.SYN in flags:
            self._opened(stream_id, events)
        stream = self._streams.get(stream_id)
        if kind is Kind.DATA:
            if stream is not None and length > stream.receive_window:
                raise YamuxError(f"stream {stream_id} got {length} bytes, {stream.receive_window} were free")
            if stream is not None:
                stream.receive_window -= length
            self._body = _Body(stream_id, length, flags, stream is not None and not stream.peer_ended)
        else:
            if stream is not None and length:
                stream.send_window = min(stream.send_window + length, _LARGEST_WINDOW)
                events.append(Window(stream_id))
            self._take_ends(stream_id, flags, events)

    def _take_body(self, body: _Body, events: deque[Event]) -> bool:
        data = bytes(self._received[: body.rest])
        del self._received[: body.rest]
        body.rest -= len(data)
        if data and body.known and (stream := self._streams.get(body.id)) is not None:
            stream.unused += len(data)
            events.append(Data(body.id, data))
        if body.rest:
            return False
        self._body = None
        self._take_ends(body.id, body.flags, events)
        return True

    def _take_ends(self, stream_id: int, flags: Flag, events: deque[Event]) -> None:
        if (stream := self._streams.get(stream_id)) is None:
            return
        if Flag.RST in flags:
            self._drop(stream_id)
            events.append(Reset(stream_id))
        elif Flag.FIN in flags and not stream.peer_ended:
            stream.peer_ended = True
            events.append(Data(stream_id, b""))
            self._forget_ended(stream_id, stream)

    def _opened(self, stream_id: int, events: deque[Event]) -> None:
        theirs = 0 if self.client else 1
        if stream_id in self._streams or stream_id == _SESSION or stream_id % 2 != theirs:
            raise YamuxError(f"the peer opened stream {stream_id}, which it must not")
        if self._waiting >= _BACKLOG:
            self._send(Kind.WINDOW_UPDATE, Flag.RST, stream_id)
            return
        self._waiting += 1
        self._streams[stream_id] = _Stream(accepted=False)
        events.append(Opened(stream_id))

    def _drop(self, stream_id: int) -> bool:
        """Whether there was such a stream."""
        if (stream := self._streams.pop(stream_id, None)) is None:
            return False
        self._waiting -= not stream.accepted
        return True

    def _forget_ended(self, stream_id: int, stream: _Stream) -> None:
        if stream.we_ended and stream.peer_ended:
            self._drop(stream_id)

    def _send(self, kind: Kind, flags: Flag, stream_id: int, length: int = 0) -> None:
        self._outgoing += _HEADER.pack(_VERSION, kind, flags, stream_id, length)
