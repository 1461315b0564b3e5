"""The gate, between a client and a server that both are here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from pathlib import Path

import pytest

from shim.catalog.api.metrics import Metrics
from shim.daemon.admission import Admission
from shim.daemon.gate import Gate

DEADLINE_S = 30
BLOCK = 1 << 16


class Nobody(Admission):
    def admit(self, _sock):
        return None


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


@pytest.fixture
def through(state_root):
    """``through(serve, visit)``: what ``visit(reader, writer)`` returns, through a gate to a server that does ``serve``.

    What is open afterwards was open before.
    """

    def run(serve, visit, admission=None, limit=64, *, server=True):
        writers = []

        async def connect():
            reader, writer = await asyncio.open_unix_connection(f"{state_root}/gate")
            writers.append(writer)
            return reader, writer

        async def served(reader, writer):
            writers.append(writer)
            await serve(reader, writer)

        async def main():
            metrics = Metrics()
            gate = Gate(f"{state_root}/target", admission or Admission(), metrics, limit)
            listener = await asyncio.start_unix_server(served, f"{state_root}/target") if server else None
            gate.listen(listening(state_root / "gate"))
            try:
                async with asyncio.timeout(DEADLINE_S):
                    found = await visit(connect, gate)
            finally:
                await gate.stop(1.0)
                if listener:
                    listener.close()
                for writer in writers:
                    writer.close()
                await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
            assert not gate._ends
            assert not gate._door.arriving
            assert not len(gate._places)
            os.unlink(state_root / "gate")
            return found, metrics.text().decode()

        before = os.listdir("/proc/self/fd")
        found = asyncio.run(main())
        assert os.listdir("/proc/self/fd") == before
        return found

    return run


async def echo(reader, writer):
    while data := await reader.read(BLOCK):
        writer.write(data)
        await writer.drain()
    writer.write(b"the end")
    writer.close()


async def greet(_reader, writer):
    writer.write(b"hello")
    writer.close()


def test_both_ways_and_each_ends_for_itself(through):
    async def visit(connect, _gate):
        reader, writer = await connect()
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"abc"
        writer.write(b"def")
        writer.write_eof()
        rest = await reader.read()
        writer.close()
        return rest

    assert through(echo, visit)[0] == b"defthe end"


def test_a_server_that_speaks_first(through):
    async def visit(connect, _gate):
        reader, writer = await connect()
        said = await reader.read()
        writer.close()
        return said

    assert through(greet, visit)[0] == b"hello"


def test_every_byte_arrives(through):
    sent = os.urandom(1 << 20) * 16

    async def visit(connect, _gate):
        reader, writer = await connect()

        async def send():
            for start in range(0, len(sent), 100_000):
                writer.write(sent[start : start + 100_000])
                await writer.drain()
            writer.write_eof()

        task = asyncio.create_task(send())
        found = await reader.read()
        await task
        writer.close()
        return hashlib.sha256(found.removesuffix(b"the end")).digest()

    assert through(echo, visit)[0] == hashlib.sha256(sent).digest()


def test_a_reader_that_rests_holds_up_who_writes(through):
    """Nothing is heaped up in between: the writer waits, and goes on when the reader does."""
    sent = 0

    async def pour(_reader, writer):
        nonlocal sent
        block = b"x" * BLOCK
        for _ in range(256):
            writer.write(block)
            await writer.drain()
            sent += BLOCK
        writer.close()

    async def visit(connect, gate):
        reader, writer = await connect()
        before = -1
        while sent != before:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.1)
        kept = sum(end._transport.get_write_buffer_size() for end in gate._ends)
        assert sent < 8 << 20, "most of it waits in the server"
        assert kept < 1 << 20
        size = 0
        while data := await reader.read(1 << 20):
            size += len(data)
        writer.close()
        return size

    assert through(pour, visit)[0] == 256 * BLOCK


@pytest.mark.parametrize("side", ["client", "server"])
def test_one_that_vanishes_takes_the_other_along(through, side):
    ended = asyncio.Event()

    async def serve(reader, writer):
        await reader.read(1)
        if side == "server":
            writer.transport.abort()
        else:
            with pytest.raises((ConnectionError, AssertionError)):
                assert await reader.read()
            writer.close()
        ended.set()

    async def visit(connect, _gate):
        reader, writer = await connect()
        writer.write(b"x")
        if side == "client":
            await writer.drain()
            writer.transport.abort()
        else:
            assert await reader.read() == b""
            writer.close()
        await ended.wait()

    through(serve, visit)


def test_who_may_not_pass(through):
    async def visit(connect, _gate):
        reader, writer = await connect()
        said = await reader.read()
        writer.close()
        return said

    said, metrics = through(greet, visit, Nobody())
    assert said == b""
    assert 'ocishim_connections_refused_total{api="grpc"} 1.0' in metrics


def test_a_server_that_is_not_there(through, caplog):
    async def visit(connect, _gate):
        reader, writer = await connect()
        said = await reader.read()
        writer.close()
        return said

    assert through(greet, visit, server=False)[0] == b""
    assert "cannot be let through to the gRPC API" in caplog.text


def test_no_more_than_it_may(through):
    async def visit(connect, gate):
        first = [await connect() for _ in range(3)]
        for reader, writer in first:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        reader, writer = await connect()
        assert await reader.read() == b""
        writer.close()
        for each, other in first:
            other.write_eof()
            assert await each.read() == b"the end"
            other.close()
        await gate._gone()
        reader, writer = await connect()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()

    through(echo, visit, limit=3)


def test_what_rests_when_the_gate_is_stopped_is_closed(through):
    async def forever(reader, writer):
        await reader.read()
        writer.close()

    async def visit(connect, _gate):
        return await connect()

    through(forever, visit)
