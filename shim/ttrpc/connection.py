"""One end of a ttrpc connection, without the socket: bytes in, events out; calls in, bytes out.

The owner feeds what it read to ``receive_data`` and writes what the sending methods return, in the order in which
it called them. All state is here and plain: the streams that live, the last id seen or given. Nothing ever waits,
so back-pressure is the owner's: it stops reading.

What the peer may do wrong has two sizes. A frame that does not fit (bad or reused id, data on a dead stream, more
than 4 MiB) costs that frame or that stream: StreamRejected, and the connection lives. Only an end of the stream in
the middle of a frame is RemoteProtocolError. Frames of unknown types, and those that go the wrong way, are ignored:
that is how ttrpc leaves room for its future.

Source: containerd/ttrpc PROTOCOL.md, server.go, client.go.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from shim.errors import Code
from shim.ttrpc.events import (
    ConnectionClosed,
    DataReceived,
    Event,
    LocalProtocolError,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
    StreamClosed,
    StreamRejected,
)
from shim.ttrpc.frames import (
    DATA,
    MAX_DATA,
    NO_DATA,
    REMOTE_CLOSED,
    REQUEST,
    RESPONSE,
    Frame,
    FrameDecoder,
    Oversized,
    encode_frame,
)
from shim.ttrpc.states import FLAGS_OF_KIND, OPENING, TRANSITIONS, Kind, Message, Party, State, kind_of_flags

__all__ = ["Connection", "Role"]

_MAX_STREAM_ID: Final = 2**32 - 1
_UNARY: Final = Kind.UNARY


class Role(Enum):
    """Which end we are. Only a client opens streams."""

    CLIENT = "client"
    SERVER = "server"


class Connection:
    """The protocol state of one connection. Not safe for use by several threads at once."""

    __slots__ = ("_decoder", "_last_id", "_role", "_streams", "_us", "_we_are_server")

    def __init__(self, role: Role) -> None:
        self._role = role
        self._we_are_server = role is Role.SERVER
        self._us = Party.ANSWERER if self._we_are_server else Party.OPENER
        self._decoder = FrameDecoder()
        self._streams: dict[int, State] = {}
        self._last_id = -1 if role is Role.CLIENT else 0

    @property
    def role(self) -> Role:
        """The end we are."""
        return self._role

    @property
    def streams(self) -> int:
        """How many streams live."""
        return len(self._streams)

    @property
    def buffered(self) -> int:
        """Bytes kept of a frame that has not arrived completely; at most MAX_DATA and a header."""
        return self._decoder.buffered

    # Receiving.

    def receive_data(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes, in order; b"" is the end of the stream.

        Raises:
            RemoteProtocolError: the stream ended inside a frame.
        """
        if not data:
            return [self._end()]
        events: list[Event] = []
        for item in self._decoder.feed(data):
            if isinstance(item, Oversized):
                self._oversized(item, events)
            elif self._we_are_server:
                self._at_server(item, events)
            else:
                self._at_client(item, events)
        return events

    def _end(self) -> Event:
        self._streams.clear()
        if not self._decoder.at_boundary:
            raise RemoteProtocolError("the connection ended inside a frame")
        return ConnectionClosed()

    def _at_server(self, frame: Frame, events: list[Event]) -> None:
        if frame.type == REQUEST:
            self._request(frame, events)
        elif frame.type == DATA:
            if frame.stream_id in self._streams:
                self._data(frame, Party.OPENER, events)
            # Of a stream that we have ended the client says so too, in answer or at the same time.
            elif frame.flags & NO_DATA == 0 or frame.stream_id > self._last_id:
                text = f"stream {frame.stream_id} is no longer active"
                events.append(StreamRejected(frame.stream_id, Code.INVALID_ARGUMENT, text, finished=False))

    def _at_client(self, frame: Frame, events: list[Event]) -> None:
        # An id we do not know is a call that we gave up: its answer comes late, and nobody waits for it.
        if frame.stream_id not in self._streams:
            return
        if frame.type == RESPONSE:
            self._move(frame.stream_id, Party.ANSWERER, Message.RESPONSE)
            events.append(ResponseReceived(frame.stream_id, frame.data))
        elif frame.type == DATA:
            self._data(frame, Party.ANSWERER, events)

    def _request(self, frame: Frame, events: list[Event]) -> None:
        stream_id, _, flags, data = frame
        if complaint := self._complaint(stream_id):
            events.append(StreamRejected(stream_id, Code.INVALID_ARGUMENT, complaint, finished=False))
            return
        kind = kind_of_flags(flags) if flags else _UNARY
        self._last_id = stream_id
        self._streams[stream_id] = OPENING[kind]
        events.append(RequestReceived(stream_id, data, kind))

    def _complaint(self, stream_id: int) -> str | None:
        if stream_id % 2 == 0:
            return f"stream id {stream_id} is even; the ids of a client are odd"
        if stream_id <= self._last_id:
            return f"stream id {stream_id} is not larger than {self._last_id}; ids increase and are not used again"
        return None

    def _data(self, frame: Frame, sender: Party, events: list[Event]) -> None:
        """A data frame on a living stream: a message, the end of the sender's side, or both in this order."""
        # Go's server refuses a message in a closing frame, the protocol's text allows it; so do we.
        if not frame.flags & NO_DATA:
            if not self._move(frame.stream_id, sender, Message.DATA):
                self._refuse(frame.stream_id, events)
                return
            events.append(DataReceived(frame.stream_id, frame.data))
        if frame.flags & REMOTE_CLOSED:
            if not self._move(frame.stream_id, sender, Message.CLOSE):
                self._refuse(frame.stream_id, events)
                return
            events.append(StreamClosed(frame.stream_id))

    def _refuse(self, stream_id: int, events: list[Event]) -> None:
        state = self._streams.pop(stream_id)
        code = Code.INVALID_ARGUMENT if self._we_are_server else Code.INTERNAL
        text = f"data frame on stream {stream_id}, which is {state.value} and allows none from this side"
        events.append(StreamRejected(stream_id, code, text, finished=True))

    def _oversized(self, frame: Oversized, events: list[Event]) -> None:
        """A frame that came and was thrown away. What was lost was a part of its stream, so that ends with it."""
        if frame.type == REQUEST and self._we_are_server:
            complaint, finished = self._complaint(frame.stream_id), False
            if complaint is None:
                self._last_id = frame.stream_id
        elif frame.type == DATA or (frame.type == RESPONSE and not self._we_are_server):
            finished = self._streams.pop(frame.stream_id, None) is not None
            if not finished and not self._we_are_server:
                return
        else:
            return
        text = f"message of {frame.size} bytes is larger than the limit of {MAX_DATA}"
        events.append(StreamRejected(frame.stream_id, Code.RESOURCE_EXHAUSTED, text, finished))

    def _move(self, stream_id: int, sender: Party, message: Message) -> bool:
        """The stream's state is that after ``message``; False, and no change, when there is no such step."""
        following = TRANSITIONS.get((self._streams[stream_id], sender, message))
        if following is None:
            return False
        self._enter(stream_id, following)
        return True

    def _enter(self, stream_id: int, state: State) -> None:
        if state is State.FINISHED:
            del self._streams[stream_id]
        else:
            self._streams[stream_id] = state

    # Sending. Each method returns the bytes to write; ResourceExhausted (data larger than MAX_DATA) and
    # LocalProtocolError leave everything as it was.

    def open_stream(self, payload: bytes, kind: Kind = Kind.UNARY) -> tuple[int, bytes]:
        """A new stream with ``payload``, a serialized ttrpc.Request: its id, and the bytes to write.

        Raises:
            LocalProtocolError: we are the server, or all ids of this connection are used up.
            ResourceExhausted: ``payload`` is too large.
        """
        stream_id = self._last_id + 2
        if self._we_are_server:
            raise LocalProtocolError("a server opens no streams")
        if stream_id > _MAX_STREAM_ID:
            raise LocalProtocolError("the stream ids of this connection are used up")
        wire = encode_frame(stream_id, REQUEST, FLAGS_OF_KIND[kind], payload)
        self._last_id = stream_id
        self._streams[stream_id] = OPENING[kind]
        return stream_id, wire

    def send_response(self, stream_id: int, payload: bytes) -> bytes:
        """The answer, a serialized ttrpc.Response; the stream is finished.

        Raises:
            LocalProtocolError: there is no such stream (any more), or we are the client.
            ResourceExhausted: ``payload`` is too large; the stream still waits for an answer.
        """
        return self._send(stream_id, Message.RESPONSE, RESPONSE, 0, payload)

    def send_data(self, stream_id: int, payload: bytes) -> bytes:
        """One message of a stream.

        Raises:
            LocalProtocolError: the stream does not allow it now.
            ResourceExhausted: ``payload`` is too large.
        """
        return self._send(stream_id, Message.DATA, DATA, 0, payload)

    def close_stream(self, stream_id: int) -> bytes:
        """We send no more on this stream; when we are the server, it is finished.

        Raises:
            LocalProtocolError: the stream does not allow it now.
        """
        return self._send(stream_id, Message.CLOSE, DATA, REMOTE_CLOSED | NO_DATA, b"")

    def _send(self, stream_id: int, message: Message, type_: int, flags: int, data: bytes) -> bytes:
        state = self._streams.get(stream_id, State.FINISHED)
        following = TRANSITIONS.get((state, self._us, message))
        if following is None:
            raise LocalProtocolError(
                f"no {message.value} may be sent on stream {stream_id}: it is {state.value}"
            )
        wire = encode_frame(stream_id, type_, flags, data)
        self._enter(stream_id, following)
        return wire

    def reject(self, stream_id: int, payload: bytes) -> bytes:
        """The answer to StreamRejected: a serialized ttrpc.Response on an id that may be no stream at all."""
        if not self._we_are_server:
            raise LocalProtocolError("a client answers nothing")
        return encode_frame(stream_id, RESPONSE, 0, payload)

    def forget(self, stream_id: int) -> None:
        """Nobody here cares for this stream any more; what still comes for it is ignored. Idempotent."""
        self._streams.pop(stream_id, None)
