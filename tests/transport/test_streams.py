"""Streams of messages over real sockets: a handler that receives and sends, and everything that can end it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.serving import SERVICE
from support.stream_client import StreamClient

from shim.errors import Code, FailedPrecondition, Unavailable
from shim.proto.task_v3_pb2 import StateRequest, StateResponse
from shim.transport import peer
from shim.transport.server import Method
from shim.transport.streams import MAX_QUEUED, Stream
from shim.ttrpc import Kind

Handler = Callable[[Stream, Any], Any]


def streaming(handler: Handler, *, shielded: bool = False) -> Method:
    return Method(handler, StateRequest, shielded, Kind.BIDI_STREAM)


async def echo(stream: Stream, _context: Any) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(message)


class Held:
    """A handler that waits for ever, and tells."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self, _stream: Stream, _context: Any) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def opened(server: Any, method: str) -> StreamClient:
    return StreamClient(server.address, SERVICE, method)


def test_messages_come_back_in_order_until_the_half_close(serve):
    server = serve(Talk=streaming(echo))
    with opened(server, "Talk") as stream:
        for number in range(500):
            stream.send(StateRequest(id=str(number)))
        stream.close_sending()
        answers = [StateRequest.FromString(payload).id for payload in iter(stream.receive, None)]
    assert answers == [str(number) for number in range(500)]
    assert stream.ended is None


def test_an_empty_message_is_a_message(serve):
    server = serve(Talk=streaming(echo))
    with opened(server, "Talk") as stream:
        stream.send(StateRequest())
        assert stream.receive() == b""
        stream.close_sending()
        assert stream.receive() is None


def test_the_server_may_end_it_first(serve):
    async def one(stream: Stream, _context: Any) -> None:
        await stream.send(StateRequest(id="only"))

    server = serve(Talk=streaming(one))
    with opened(server, "Talk") as stream:
        assert stream.receive() is not None
        assert stream.receive() is None
        assert stream.ended is None
        # What is sent now is for nobody; the connection lives.
        stream._machine._streams[stream.id] = "open"
        stream.sock.sendall(stream._machine.send_data(stream.id, b""))
        stream.is_ended = False
        assert stream.receive() is None
        assert stream.ended.code == Code.INVALID_ARGUMENT


@pytest.mark.parametrize("waits", [False, True])
def test_an_error_ends_it_with_its_status(serve, waits):
    async def failing(stream: Stream, _context: Any) -> None:
        if waits:
            await stream.receive()
        raise FailedPrecondition("not now")

    server = serve(Talk=streaming(failing))
    with opened(server, "Talk") as stream:
        stream.send(StateRequest())
        assert stream.receive() is None
        assert (stream.ended.code, stream.ended.message) == (
            Code.FAILED_PRECONDITION,
            "not now: failed precondition",
        )
    server.until(lambda: server.server.idle)


def test_what_cannot_be_decoded(serve):
    server = serve(Talk=streaming(echo))
    with opened(server, "Talk") as stream:
        stream.sock.sendall(stream._machine.send_data(stream.id, b"\xff"))
        assert stream.receive() is None
        assert stream.ended.code == Code.INVALID_ARGUMENT


def test_a_lost_connection_ends_the_handler(serve):
    held = Held()
    server = serve(Talk=streaming(held))
    with opened(server, "Talk"):
        assert held.started.wait(10)
    assert held.cancelled.wait(10)
    server.until(lambda: server.server.idle)


def test_a_handler_writes_to_nobody(serve):
    """It outlives its connection, and is told at the next message that nobody is there."""
    gone = threading.Event()

    async def talking(stream: Stream, _context: Any) -> None:
        try:
            while True:
                await stream.send(StateRequest(id="x"))
                await asyncio.sleep(0)
        except Unavailable:
            gone.set()

    server = serve(Talk=streaming(talking, shielded=True))
    with opened(server, "Talk") as stream:
        assert stream.receive() is not None
    assert gone.wait(10)
    server.until(lambda: server.server.idle)


def test_a_client_that_does_not_read_makes_the_handler_wait(serve):
    written = [0]

    async def talking(stream: Stream, _context: Any) -> None:
        while written[0] < 64:
            await stream.send(StateRequest(id="x" * (1 << 20)))
            written[0] += 1

    server = serve(Talk=streaming(talking))
    with opened(server, "Talk") as stream:
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Somebody else is served meanwhile, and the buffer stops growing long before the end.
        for _ in range(20):
            with server.client() as other:
                assert other.call(SERVICE, "Echo", StateRequest(id="x"), StateResponse, 10).id == "x"
        assert written[0] < 8
        count = sum(1 for _ in iter(stream.receive, None))
    assert count == 64


def test_a_client_that_floods_a_handler_which_does_not_receive(serve):
    held = Held()
    server = serve(Talk=streaming(held))
    with opened(server, "Talk") as stream:
        for _ in range(MAX_QUEUED // 64 + 1):
            stream.send(StateRequest())
        assert stream.receive() is None
        assert stream.ended.code == Code.RESOURCE_EXHAUSTED
        assert held.cancelled.wait(10)
    server.until(lambda: server.server.idle)


def test_a_deadline_ends_it(serve):
    held = Held()
    server = serve(Talk=streaming(held))
    with StreamClient(server.address, SERVICE, "Talk", timeout_nano=1_000_000) as stream:
        assert stream.receive() is None
        assert stream.ended.code == Code.DEADLINE_EXCEEDED
    assert held.cancelled.wait(10)


def test_close_of_the_server_waits_for_no_stream(serve):
    held = Held()
    server = serve(Talk=streaming(held))
    with opened(server, "Talk") as stream:
        assert held.started.wait(10)
        server.run(server.server.close(grace_s=30))
        assert held.cancelled.is_set()
        assert stream.receive() is None
        assert stream.ended.code == Code.CANCELED


def test_many_streams_on_their_connections(serve):
    server = serve(Talk=streaming(echo))
    streams = [opened(server, "Talk") for _ in range(50)]
    for number, stream in enumerate(streams):
        stream.send(StateRequest(id=str(number)))
    for number, stream in reversed(list(enumerate(streams))):
        assert StateRequest.FromString(stream.receive() or b"").id == str(number)
        stream.sock.close()
    server.until(lambda: server.server.idle)


def test_a_method_is_called_as_what_it_is(serve):
    """A stream of a unary method and a call of a stream are both Unimplemented, which is what old servers say."""
    server = serve(Talk=streaming(echo))
    with opened(server, "Echo") as stream:
        assert stream.receive() is None
        assert stream.ended.code == Code.UNIMPLEMENTED
    with server.raw() as raw:
        raw.request("Talk")
        assert raw.response().status.code == Code.UNIMPLEMENTED


def test_nothing_is_kept_of_streams(serve):
    server = serve(Talk=streaming(echo))
    with opened(server, "Talk") as stream:
        stream.send(StateRequest(id="x"))
        assert stream.receive() is not None
        (connection,) = server.ask(lambda: list(server.server._peers))
        assert isinstance(connection, peer.Peer)
        assert len(connection._streams) == 1
        stream.close_sending()
        assert stream.receive() is None
        server.until(lambda: not connection._streams and not connection._calls)
        assert connection._machine.streams == 0
