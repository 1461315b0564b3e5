"""The client for an event loop, against a server in another thread."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.coroutines import until
from support.serving import SERVICE, Running

from shim.errors import (
    AlreadyExists,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from shim.proto.task_v3_pb2 import StateRequest, StateResponse
from shim.transport.aclient import AsyncClient
from shim.transport.server import CallContext, Method


@asynccontextmanager
async def connected(server: Running) -> AsyncIterator[AsyncClient]:
    client = await AsyncClient.connect(server.address, 10)
    try:
        yield client
    finally:
        client.close()
        await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn


async def ask(client: AsyncClient, method: str, text: str = "", timeout_s: float = 10, **more: Any) -> str:
    request = StateRequest(id=text)
    answer = await client.call(SERVICE, method, request, StateResponse, timeout_s=timeout_s, **more)
    return answer.id


async def forever(_request: StateRequest, _context: CallContext) -> None:
    await asyncio.Event().wait()


async def test_many_calls_at_once(serve):
    async with connected(serve()) as client:
        answers = await asyncio.gather(*(ask(client, "Echo", str(number)) for number in range(200)))
    assert answers == [str(number) for number in range(200)]


async def test_what_a_request_carries(serve):
    async def about(_request: StateRequest, context: CallContext) -> StateResponse:
        return StateResponse(id=f"{context.namespace} {context.deadline is not None}")

    async with connected(serve(About=Method(about, StateRequest))) as client:
        assert await ask(client, "About", namespace="ns") == "ns True"
        assert await ask(client, "About") == "None True"


async def test_errors_have_their_kind(serve):
    async def failing(_request: StateRequest, _context: CallContext) -> None:
        raise AlreadyExists("it is there")

    async with connected(serve(Fail=Method(failing, StateRequest))) as client:
        with pytest.raises(AlreadyExists, match=r"^it is there$"):
            await ask(client, "Fail")
        with pytest.raises(Unimplemented, match="method Fly"):
            await ask(client, "Fly")
        with pytest.raises(ResourceExhausted):
            await ask(client, "Echo", "x" * (4 << 20))
        assert await ask(client, "Echo", "alive") == "alive"


async def test_no_answer_in_time_leaves_the_connection_good(serve):
    async with connected(serve(Wait=Method(forever, StateRequest))) as client:
        with pytest.raises(DeadlineExceeded, match="Wait"):
            await ask(client, "Wait", timeout_s=0.01)
        assert await ask(client, "Echo", "alive") == "alive"
        assert not client.closed
        assert client._calls == {}
        assert client._machine.streams == 0


async def test_a_cancelled_call_leaves_nothing(serve):
    async with connected(serve(Wait=Method(forever, StateRequest))) as client:
        call = asyncio.create_task(ask(client, "Wait"))
        await until(lambda: client._calls)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert (client._calls, client._machine.streams) == ({}, 0)


async def test_a_server_that_goes_fails_what_waits(serve):
    server = serve(Wait=Method(forever, StateRequest))
    async with connected(server) as client:
        calls = [asyncio.create_task(ask(client, "Wait")) for _ in range(3)]
        await until(lambda: server.server.calls == 3)
        server.ask(lambda: [peer.abort() for peer in server.server._peers])
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, Unavailable)
        assert client.closed
        with pytest.raises(Unavailable, match="closed"):
            await ask(client, "Echo")


async def test_close_fails_what_waits(serve):
    async with connected(serve(Wait=Method(forever, StateRequest))) as client:
        call = asyncio.create_task(ask(client, "Wait"))
        await until(lambda: client._calls)
        client.close()
        client.close()
        with pytest.raises(Unavailable, match="closed here"):
            await call


async def test_nobody_there(state_root: Path):
    with pytest.raises(Unavailable, match="No such file"):
        await AsyncClient.connect(str(state_root / "none"), 1)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state_root / "dead"))
    with pytest.raises(Unavailable, match="refused"):
        await AsyncClient.connect(str(state_root / "dead"), 1)
    with pytest.raises(InvalidArgument):
        await AsyncClient.connect("tcp://1.2.3.4", 1)


@pytest.mark.parametrize(
    "sent", [b"\0\0\0\1\0\0\0\1\2\0\xff", b"\0\0\0\5\0\0\0\1\2\0"], ids=["nonsense", "cut"]
)
async def test_a_server_that_answers_nonsense(state_root: Path, sent: bytes):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state_root / "odd"))
        listener.listen()
        client = await AsyncClient.connect(str(state_root / "odd"), 10)
        server, _ = listener.accept()
        with server:
            call = asyncio.create_task(ask(client, "Echo"))
            await until(lambda: client._calls)
            server.sendall(sent)
        with pytest.raises((Internal, Unavailable)):
            await call
        client.close()
        await asyncio.sleep(0)
