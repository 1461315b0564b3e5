"""The input of a process without a terminal, and its end."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from support.coroutines import until
from support.streams import client_reads, client_writes, take, take_all

from shim.linux.fd import OwnedFd
from shim.stdio import Streams


def streams_of(rig):
    return Streams(rig.fifo("in"), rig.fifo("out"))


async def test_input_ends_when_the_client_and_we_have_let_go(rig):
    streams = streams_of(rig)
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        child = await rig.run(io, "cat; echo end")
        with client_writes(streams.stdin) as stdin:
            os.write(stdin.fileno(), b"one ")
            assert await take(out, 4) == b"one "
        # A client that only goes away, or is started again, ends nothing.
        with client_writes(streams.stdin) as stdin:
            os.write(stdin.fileno(), b"two ")
            assert await take(out, 4) == b"two "
            io.close_stdin()
            os.write(stdin.fileno(), b"three ")
            assert await take(out, 6) == b"three "
            assert child.exit is None
        assert await take_all(out) == b"end\n"
    assert (await child.wait()).status == 0


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("when", ["before open", "before started", "while it runs"])
async def test_close_stdin_without_a_client(rig, when, times):
    """Nobody ever writes: the process sees an empty input, whenever the client said so."""
    streams = streams_of(rig)
    io = rig.io(streams, fifo_timeout_s=0)

    def close_stdin_at(now):
        for _ in range(times if now == when else 0):
            io.close_stdin()

    with client_reads(streams.stdout) as out:
        close_stdin_at("before open")
        await io.open()
        close_stdin_at("before started")
        child = rig.spawn(["sh", "-c", "cat; echo end"], io.runtime_fds)
        await io.started()
        close_stdin_at("while it runs")
        assert await take_all(out) == b"end\n"
    assert (await child.wait()).status == 0
    io.close_stdin()
    await io.close()
    io.close_stdin()


@pytest.mark.parametrize("when", ["before open", "before started"])
async def test_close_stdin_with_a_client_that_waits_in_open(rig, when):
    """The usual client opens its end in the background, and has it as soon as we have ours."""
    streams = streams_of(rig)
    io = rig.io(streams, fifo_timeout_s=0)
    opening = asyncio.create_task(asyncio.to_thread(os.open, streams.stdin, os.O_WRONLY | os.O_CLOEXEC))
    await asyncio.sleep(0)
    with client_reads(streams.stdout) as out:
        if when == "before started":
            await io.open()
            stdin = await opening
            io.close_stdin()
        else:
            with OwnedFd(os.open(streams.stdin, os.O_RDONLY | os.O_NONBLOCK)):
                stdin = await opening
                io.close_stdin()
                await io.open()
        with OwnedFd(stdin):
            child = rig.spawn(["cat"], io.runtime_fds)
            await io.started()
            os.write(stdin, b"still delivered")
            assert await take(out, 15) == b"still delivered"
        assert await take_all(out) == b""
    assert (await child.wait()).status == 0


async def test_close_stdin_with_bytes_in_flight(rig):
    """What the client wrote arrives whole, although it has gone and everything is closed before it is read."""
    streams = streams_of(rig)
    data = random.Random(3).randbytes(60_000)
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        await io.open()
        with client_writes(streams.stdin) as stdin:
            assert os.write(stdin.fileno(), data) == len(data)
        io.close_stdin()
        rig.spawn(["cat"], io.runtime_fds)
        await io.started()
        assert await take_all(out) == data


async def test_large_input_through_a_slow_process(rig):
    streams = streams_of(rig)
    data = random.Random(4).randbytes(5_000_000)

    def write(fd):
        with OwnedFd(fd), open(fd, "wb", closefd=False) as file:
            os.set_blocking(fd, True)
            file.write(data)

    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        await rig.run(io, "head -c 3 >/dev/null; cat")
        writing = asyncio.create_task(asyncio.to_thread(write, client_writes(streams.stdin).detach()))
        io.close_stdin()
        assert await take_all(out) == data[3:]
        await writing


async def test_a_process_that_closes_its_input_breaks_the_pipe_of_the_client(rig):
    streams = streams_of(rig)
    io = rig.io(streams, fifo_timeout_s=0)
    child = await rig.run(io, "exec <&-; exec sleep 1000")
    with client_writes(streams.stdin) as stdin:
        io.close_stdin()
        await until(lambda: os.readlink(f"/proc/{child.pid}/exe").endswith("/sleep"))
        with pytest.raises(BrokenPipeError):
            await until(lambda: os.write(stdin.fileno(), b"x") == 0)
    assert io.dropped == 0  # that counts output


async def test_input_that_the_process_did_not_read_is_nothing_to_warn_of(rig, caplog):
    streams = streams_of(rig)
    io = rig.io(streams, fifo_timeout_s=0)
    child = await rig.run(io, "exit 0")
    with client_writes(streams.stdin) as stdin:
        os.write(stdin.fileno(), b"x" * 1000)
        await child.wait()
        await io.close()
    assert caplog.text == ""
    assert io.stream_states()[0]["ended"]


async def test_without_input_the_end_comes_at_once(rig):
    path = rig.fifo("out")
    with client_reads(path) as out:
        io = rig.io(Streams(stdout=path))
        io.close_stdin()
        await rig.run(io, "cat; echo end")
        assert await take_all(out) == b"end\n"


async def test_dev_null_is_an_empty_input(rig):
    streams = Streams(os.devnull, rig.fifo("out"))
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        child = await rig.run(io, "cat; echo end")
        io.close_stdin()
        assert await take_all(out) == b"end\n"
    assert (await child.wait()).status == 0
