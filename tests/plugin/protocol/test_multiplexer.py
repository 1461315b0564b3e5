"""Streams over one connection with Go's own yamux, and with a peer that does what it must not."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import asynccontextmanager

import pytest
from support import bed, go_plugin

from shim.errors import Unavailable
from shim.plugin.protocol.multiplexer import Multiplexer


@asynccontextmanager
async def go_yamux(path: str):
    """Go's yamux, which echoes; what it prints."""
    bed.need(go_plugin.is_there(), "Go is not installed: apt-get install golang-go")
    process = await asyncio.create_subprocess_exec(go_plugin.built(), "yamux", path, stdout=subprocess.PIPE)
    assert await process.stdout.readline() == b"listening\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def greeted(path: str):
    """A server that takes one connection; what it got from it, and the way back."""
    accepted: asyncio.Queue = asyncio.Queue()
    server = await asyncio.start_unix_server(lambda *stream: accepted.put_nowait(stream), path)
    try:
        yield accepted
    finally:
        server.close()
        if not accepted.empty():
            accepted.get_nowait()[1].close()


async def echoed(mux: Multiplexer, data: bytes) -> bytes:
    reader, writer = await mux.open()
    writer.write(data)
    writer.write_eof()
    got = await reader.read()
    writer.close()
    return got


async def test_streams_of_both_sides_carry_what_is_sent(leaks, tmp_path):
    async with go_yamux(f"{tmp_path}/go") as go, greeted(f"{tmp_path}/ours") as accepted:
        mux = await Multiplexer.connect("unix", f"{tmp_path}/go")
        mux.expect(f"{tmp_path}/ours")
        reader, writer = await accepted.get()
        assert await reader.readline() == b"hello\n"
        # Several windows, on several streams at once.
        data = os.urandom(1 << 20)
        assert await asyncio.gather(*(echoed(mux, data[: n << 18]) for n in range(5))) == [
            data[: n << 18] for n in range(5)
        ]
        writer.write(b"back")
        writer.write_eof()
        assert await reader.read() == b"back"
        writer.close()
        await mux.close()
        out, _ = await go.communicate()
        assert out.count(b"stream: <nil>\n") == 6
        assert out.splitlines()[-1].startswith(b"ended:")


async def test_one_that_nobody_announced_is_turned_away(leaks, tmp_path):
    async with go_yamux(f"{tmp_path}/go") as go:
        mux = await Multiplexer.connect("unix", f"{tmp_path}/go")
        assert await echoed(mux, b"x") == b"x"
        # One for each of the two streams, in whichever order they end.
        ends = {await go.stdout.readline() for _ in range(2)}
        assert ends == {b"stream: <nil>\n", b"stream: connection reset\n"}
        await mux.close()


async def test_a_reader_that_waits_holds_its_own_stream_alone(leaks, tmp_path):
    async with go_yamux(f"{tmp_path}/go"):
        mux = await Multiplexer.connect("unix", f"{tmp_path}/go")
        reader, writer = await mux.open()
        writer.write(bytes(4 << 20))
        await asyncio.sleep(0)
        assert await echoed(mux, b"others go on") == b"others go on"
        writer.write_eof()
        assert len(await reader.read()) == 4 << 20
        writer.close()
        await mux.close()


async def test_whoever_waits_is_told_when_the_peer_dies(leaks, tmp_path):
    async with go_yamux(f"{tmp_path}/go") as go:
        mux = await Multiplexer.connect("unix", f"{tmp_path}/go")
        reader, writer = await mux.open()
        go.kill()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(Unavailable, match="the plugin ended the connection"):
            await mux.open()
        await mux.close()


async def test_a_peer_that_speaks_something_else_is_told(leaks, tmp_path, caplog):
    async with greeted(f"{tmp_path}/s") as accepted:
        mux = await Multiplexer.connect("unix", f"{tmp_path}/s")
        _, writer = await accepted.get()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await asyncio.wait([mux._reading])
        with pytest.raises(Unavailable, match="this is not yamux: version 72"):
            await mux.open()
        await mux.close()
        writer.close()
    with pytest.raises(Unavailable, match="no answer from the plugin"):
        await Multiplexer.connect("unix", f"{tmp_path}/none")
