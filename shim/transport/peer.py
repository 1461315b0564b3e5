"""One connection of a server: an asyncio protocol around the pure machine.

Who owns what: the transport owns the socket; the Peer owns the machine and the calls that came over it. A call is
answered once: by its handler, by its deadline, or, when the connection is lost first, not at all.

Back-pressure. A client that does not read makes the transport's buffer grow; above its high-water mark we handle
no further request of this client and read none, so that what we hold for it is bounded by the calls already running,
and a client that lets even those answers pile up to MAX_UNREAD is disconnected.

Source: asyncio-protocol; containerd/ttrpc server.go for what a lost connection means.
"""

from __future__ import annotations

import asyncio
import logging
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol

from google.protobuf.message import DecodeError

from shim.errors import Code, ResourceExhausted
from shim.proto.ttrpc_pb2 import Request
from shim.transport.call import Call
from shim.transport.calls import HANDLER_ERRORS, CallContext, failure, status, success
from shim.transport.streams import MAX_QUEUED, Stream
from shim.ttrpc import (
    Connection,
    DataReceived,
    Event,
    Kind,
    LocalProtocolError,
    RemoteProtocolError,
    RequestReceived,
    Role,
    StreamClosed,
    StreamRejected,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from shim.transport.calls import Method
    from shim.transport.eager import EagerRunner

__all__ = ["MAX_CALLS", "MAX_UNREAD", "Peer", "PeerOwner"]

# Calls of one connection that may run at once. A shim of a pod has one Wait per process outstanding, so this is
# far above any honest use.
MAX_CALLS: Final = 4096

MAX_UNREAD: Final = 64 << 20

_log = logging.getLogger(__name__)


class PeerOwner(Protocol):
    """What a Peer needs from its server."""

    services: Mapping[str, Mapping[str, Method]]
    runner: EagerRunner
    buffer: memoryview
    """Where a read puts its bytes. All peers share it: the event loop fills it and hands it over in one step."""

    def connected(self, peer: Peer) -> None:
        """``peer`` has its transport."""

    def disconnected(self, peer: Peer) -> None:
        """``peer`` is gone; calls of it may still run."""

    def started(self, call: Call) -> None:
        """``call`` did not finish at once."""

    def finished(self, call: Call) -> None:
        """A call that was started has ended."""


class Peer(asyncio.BufferedProtocol):
    """The server's side of one connection."""

    def __init__(self, owner: PeerOwner, pid: int) -> None:
        self.pid = pid
        self._owner = owner
        self._services = owner.services
        self._run = owner.runner.run
        self._loop = asyncio.get_running_loop()
        self._machine = Connection(Role.SERVER)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Call] = {}
        self._streams: dict[int, Stream] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._backlog: list[Event] = []  # read, and not handled because the client does not read
        self._full = False
        self._refusing = False
        self._closing = False
        self._told: set[Code] = set()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bytes may come and go from now on."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._owner.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the protocol's signature
        """Where the next read goes."""
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """``nbytes`` have come."""
        self._handle(self._machine.receive_data(bytes(self._owner.buffer[:nbytes])))

    def eof_received(self) -> None:
        """The client sends no more. ttrpc has no half-open connections, so the transport closes now."""
        try:
            self._machine.receive_data(b"")
        except RemoteProtocolError as error:
            _log.warning("client with pid %d: %s", self.pid, error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason changes nothing
        """The client is gone; so are the handlers that nobody else needs."""
        self._transport = None
        self._backlog.clear()
        for stream in self._streams.values():
            stream.lost()
        self._streams.clear()
        self._room.set()
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.abandon()
        self._owner.disconnected(self)

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._full = True
        self._room.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has read most of what it had to."""
        self._full = False
        self._room.set()
        events, self._backlog = self._backlog, []
        self._handle(events)
        if self._transport is not None and not self._full and not self._closing:
            self._transport.resume_reading()

    # Requests in, answers out.

    def _handle(self, events: list[Event]) -> None:
        for index, event in enumerate(events):
            if self._full:
                self._backlog += events[index:]
                return
            if isinstance(event, RequestReceived):
                self._request(event)
            elif isinstance(event, StreamRejected):
                self._rejected(event)
            elif isinstance(event, DataReceived | StreamClosed):
                self._stream_event(event)

    def _request(self, event: RequestReceived) -> None:
        try:
            request = Request.FromString(event.payload)
        except DecodeError:
            self._refuse(
                event.stream_id, Code.INVALID_ARGUMENT, "the request cannot be decoded: invalid argument"
            )
            return
        methods = self._services.get(request.service)
        method = methods.get(request.method) if methods else None
        if self._refusing:
            self.reply(event.stream_id, status(Code.UNAVAILABLE, "the server is ending: unavailable"))
        elif method is None:
            # containerd tries the next version of a service after these very texts' code.
            text = f"method {request.method}" if methods else f"service {request.service}"
            self._refuse(event.stream_id, Code.UNIMPLEMENTED, text)
        elif event.kind is not method.kind:
            self._refuse(event.stream_id, Code.UNIMPLEMENTED, f"{event.kind.value} {request.method}")
        elif len(self._calls) >= MAX_CALLS:
            text = f"{MAX_CALLS} calls are running on this connection: resource exhausted"
            self._refuse(event.stream_id, Code.RESOURCE_EXHAUSTED, text)
        else:
            self._start(event.stream_id, method, request)

    def _start(self, stream_id: int, method: Method, request: Request) -> None:
        argument: Any
        if method.kind is Kind.UNARY:
            try:
                argument = method.request.FromString(request.payload)
            except DecodeError:
                text = f"{_name(request)}: the message cannot be decoded: invalid argument"
                self._refuse(stream_id, Code.INVALID_ARGUMENT, text)
                return
        else:
            argument = self._streams[stream_id] = Stream(self, stream_id, method.request)
        nanos = request.timeout_nano
        deadline = self._loop.time() + nanos / 1e9 if nanos else None
        try:
            outcome: Any = method.handler(argument, CallContext(request, deadline))
            if isinstance(outcome, CoroutineType):
                outcome = self._run(outcome)
                if isinstance(outcome, asyncio.Task):
                    self._wait_for(Call(self, stream_id, method, _name(request), outcome), deadline)
                    return
            self.answer(stream_id, method, outcome)
        except HANDLER_ERRORS as error:
            self.reply(stream_id, failure(error, _name(request)))

    def _wait_for(self, call: Call, deadline: float | None) -> None:
        self._calls[call.stream_id] = call
        self._owner.started(call)
        if deadline is not None:
            call.expire_at(deadline, self._loop)

    def ended(self, call: Call) -> None:
        """The handler of ``call`` has ended, and it was answered if anybody waited."""
        self._calls.pop(call.stream_id, None)
        self._owner.finished(call)
        if self._closing and not self._calls and self._transport is not None:
            self._transport.close()

    def _stream_event(self, event: DataReceived | StreamClosed) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        if isinstance(event, StreamClosed):
            stream.feed_end()
        elif not stream.feed(event.payload):
            # As Go's server, which waits a second first for its handler to catch up.
            text = f"stream {event.stream_id}: more than {MAX_QUEUED} bytes wait: resource exhausted"
            self._refuse(event.stream_id, Code.RESOURCE_EXHAUSTED, text)
            if event.stream_id in self._calls:
                self._calls.pop(event.stream_id).abandon()

    def _refuse(self, stream_id: int, code: Code, text: str) -> None:
        self._tell(code, text)
        self.reply(stream_id, status(code, text))

    def _tell(self, code: Code, text: str) -> None:
        # Once for each kind: a client that breaks the rules seldom does so once. Those that look for what they can use are
        # no such clients.
        if code not in self._told:
            self._told.add(code)
            level = logging.INFO if code is Code.UNIMPLEMENTED else logging.WARNING
            _log.log(level, "client with pid %d: %s", self.pid, text)

    def _rejected(self, event: StreamRejected) -> None:
        self._tell(event.code, event.text)
        if event.finished:
            self._drop_stream(event.stream_id)
            if event.stream_id in self._calls:
                self._calls.pop(event.stream_id).abandon()
        if self._connected():
            self._write(self._machine.reject(event.stream_id, status(event.code, event.text)))

    def answer(self, stream_id: int, method: Method, result: Message | None) -> None:
        """The handler is done: its result is on its way, or the end of its stream."""
        if method.kind is Kind.UNARY:
            self.reply(stream_id, success(result))
        elif self._drop_stream(stream_id) and self._connected():
            self._write(self._machine.close_stream(stream_id))

    # What a stream asks for.

    def send_message(self, stream_id: int, payload: bytes) -> bool:
        """See Link."""
        if not self._connected() or stream_id not in self._streams:
            return False
        self._write(self._machine.send_data(stream_id, payload))
        return True

    async def writable(self) -> None:
        """See Link."""
        await self._room.wait()

    def _drop_stream(self, stream_id: int) -> bool:
        """Whether there was one; nothing goes out on it any more."""
        if (stream := self._streams.pop(stream_id, None)) is None:
            return False
        stream.lost()
        return True

    def reply(self, stream_id: int, payload: bytes) -> None:
        """``payload``, a serialized Response, is on its way; dropped when there is nobody to take it."""
        if self._streams:
            self._drop_stream(stream_id)
        if not self._connected():
            return
        try:
            wire = self._machine.send_response(stream_id, payload)
        except ResourceExhausted as error:
            wire = self._machine.send_response(stream_id, status(error.code, error.wire_message()))
        except LocalProtocolError:  # the client broke this stream in the meantime, and was told
            return
        self._write(wire)

    def _connected(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _write(self, wire: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - for the type checker
        self._transport.write(wire)
        if self._full and self._transport.get_write_buffer_size() > MAX_UNREAD:
            _log.warning("client with pid %d does not read its answers: disconnected", self.pid)
            self._transport.abort()

    def refuse(self) -> None:
        """No further request is handled, and the client is told so; its streams end."""
        self._refusing = True
        # A stream has no answer to wait for, and may be one that nobody will ever ask for.
        for stream_id in list(self._streams):
            if stream_id in self._calls:
                self._calls[stream_id].task.cancel()

    def close(self) -> None:
        """No further request is read; the connection closes with the last answer."""
        self._closing = True
        if self._transport is None:
            return
        self._transport.pause_reading()
        self.refuse()
        if not self._calls:
            self._transport.close()

    def abort(self) -> None:
        """The connection is gone, whatever was still to be sent."""
        if self._transport is not None:
            self._transport.abort()


def _name(request: Request) -> str:
    return f"{request.service}/{request.method}"
