"""What a ttrpc call costs from process to process: our client, our server, a unix socket between them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest
from google.protobuf.empty_pb2 import Empty

from shim.proto.task_v3_pb2 import StateRequest, StateResponse
from shim.transport.client import Client

SERVICE = "bench.Service"


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short path for the socket
    server = subprocess.Popen([sys.executable, __file__, "s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with server, Client.connect(server.stdout.readline().decode().strip(), namespace="default") as client:
        yield client
        server.stdin.close()


def test_empty_call(benchmark, client):
    """One call after the other; OPS are round trips per second, the median is the p50."""
    benchmark(client.call, SERVICE, "Nothing", Empty(), Empty)


def test_empty_call_with_a_timeout(benchmark, client):
    benchmark(client.call, SERVICE, "Nothing", Empty(), Empty, 2.0)


def test_call_the_size_of_state(benchmark, client):
    benchmark(client.call, SERVICE, "State", StateRequest(id="0123456789abcdef" * 4), StateResponse)


def test_call_that_waits_for_one_turn_of_the_loop(benchmark, client):
    benchmark(client.call, SERVICE, "Turn", Empty(), Empty)


def test_a_hundred_calls_at_once(benchmark, client):
    def burst():
        for call in [client.start(SERVICE, "Nothing", Empty(), Empty) for _ in range(100)]:
            call.result()

    benchmark(burst)


@pytest.mark.usefixtures("client")
def test_connect_call_close(benchmark):
    def visit():
        with Client.connect("s") as visitor:
            visitor.call(SERVICE, "Nothing", Empty(), Empty)

    benchmark(visit)


async def serve(path: str) -> None:
    from shim.transport.server import Method, Server  # noqa: PLC0415 - the client's process has no use for it

    async def nothing(_request, _context):
        return None

    async def turn(_request, _context):
        await asyncio.sleep(0)

    async def state(request, _context):
        bundle = "/run/ocishim/containers/" + request.id
        return StateResponse(
            id=request.id, bundle=bundle, pid=4711, status=2, stdout=bundle + "/fifos/stdout"
        )

    methods = {
        "Nothing": Method(nothing, Empty),
        "Turn": Method(turn, Empty),
        "State": Method(state, StateRequest),
    }
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(128)
    server = Server({SERVICE: methods})
    await server.serve(listening)
    print(path, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
