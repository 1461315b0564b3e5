"""A process on a terminal."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from support.streams import client_reads, client_writes, send_fds, take, take_all

from shim.errors import InvalidArgument
from shim.linux.fd import OwnedFd
from shim.linux.pty import Winsize, make_raw
from shim.stdio import Streams


def streams_of(rig):
    return Streams(rig.fifo("in"), rig.fifo("out"), terminal=True)


async def take_until(fd, text):
    data = b""
    while not data.endswith(text):
        byte = await take(fd, 1)
        assert byte, f"ended without {text!r}: {data!r}"
        data += byte
    return data


async def test_input_is_echoed_and_output_is_cooked(rig):
    streams = streams_of(rig)
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        child = await rig.run_on_terminal(io, "tty; read x; echo got $x; exit 5")
        assert (await take_until(out, b"\n")).startswith(b"/dev/pts/")
        with client_writes(streams.stdin) as stdin:
            os.write(stdin.fileno(), b"line\n")
            assert await take_until(out, b"got line\r\n") == b"line\r\ngot line\r\n"
        assert (await child.wait()).status == 5
        io.process_ended()
        assert await take_all(out) == b""
    assert [s["name"] for s in io.stream_states()] == ["box stdin", "box terminal"]


async def test_the_runtime_gets_dev_null_and_a_private_socket(rig):
    io = rig.io(streams_of(rig), fifo_timeout_s=0)
    assert io.console_socket is None
    await io.open()
    assert {os.readlink(f"/proc/self/fd/{fd}") for fd in io.runtime_fds} == {"/dev/null"}
    folder = Path(io.console_socket).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.parent == rig.consoles
    with OwnedFd(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)) as master:
        send_fds(io, master.fileno())
    await io.started()
    assert io.console_socket is None
    assert not folder.exists()


async def test_control_characters_are_signals(rig):
    streams = streams_of(rig)
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        child = await rig.run_on_terminal(io, "echo ready; exec sleep 1000")
        await take_until(out, b"ready\r\n")
        with client_writes(streams.stdin) as stdin:
            os.write(stdin.fileno(), b"\x03")
            assert (await child.wait()).status == 130


@pytest.mark.parametrize("when", ["before open", "before started"])
async def test_a_size_from_before_there_was_a_terminal(rig, when):
    streams = streams_of(rig)
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        io.resize(Winsize(1, 1))
        if when == "before open":
            io.resize(Winsize(rows=11, cols=222))
        await io.open()
        if when == "before started":
            io.resize(Winsize(rows=11, cols=222))
        master, slave = os.openpty()
        send_fds(io, master)
        os.close(master)
        await io.started()
        rig.spawn(["stty", "size"], (slave,) * 3)
        os.close(slave)
        assert await take_until(out, b"\n") == b"11 222\r\n"


async def test_a_size_that_changes_is_signalled(rig):
    streams = streams_of(rig)
    # A shell runs the trap when a command of it has ended; one that waited for input would miss a signal just before.
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        child = await rig.run_on_terminal(io, script)
        await take_until(out, b"ready\r\n")
        io.resize(Winsize(rows=33, cols=44))
        assert await take_until(out, b"\n") == b"33 44\r\n"
        child.send_signal(9)
        await child.wait()
        io.process_ended()
        io.resize(Winsize(5, 5))
        await io.close()
        io.resize(Winsize(6, 6))


@pytest.mark.parametrize("size", [(-1, 1), (1, -1), (65536, 1), (1, 1 << 40)])
async def test_a_size_that_no_terminal_can_have(rig, size):
    io = rig.io(streams_of(rig))
    with pytest.raises(InvalidArgument, match="a terminal cannot have"):
        io.resize(Winsize(*size))


async def test_a_size_without_a_terminal_is_nothing(rig):
    io = rig.io(Streams())
    child = await rig.run(io, "exit 0")
    io.resize(Winsize(1, 1))
    await child.wait()


@pytest.mark.parametrize("size", [1, 4095, 4096, 70_000, 1_000_000])
async def test_the_end_comes_after_the_last_byte(rig, size):
    """The process ends, and we know it, with output still on its way."""
    streams = streams_of(rig)
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        child = await rig.run_on_terminal(io, f"head -c {size} /dev/zero; echo end")
        collecting = asyncio.create_task(take_all(out))
        await child.wait()
        io.process_ended()
        output = await collecting
    assert output == bytes(size) + b"end\r\n"
    await io.drain()
    assert io.dropped == 0


async def test_short_processes_lose_nothing(rig):
    streams = streams_of(rig)
    for number in range(30):
        with client_reads(streams.stdout) as out:
            io = rig.io(streams)
            child = await rig.run_on_terminal(io, f"echo {number}")
            await child.wait()
            io.process_ended()
            assert await take_all(out) == b"%d\r\n" % number
            await io.close()


async def test_a_client_that_is_slow_gets_the_rest(rig):
    """The terminal holds more than the FIFO has room for, and nobody reads until the process has ended."""
    streams = streams_of(rig)
    io = rig.io(streams, fifo_timeout_s=0)
    child = await rig.run_on_terminal(io, "seq 5000; exit 3")
    with client_reads(streams.stdout) as out:
        await child.wait()
        io.process_ended()
        assert (await take_all(out)).split() == [b"%d" % n for n in range(1, 5001)]


@pytest.mark.parametrize("text", [b"whole line\n", b"half a line", b""])
async def test_the_end_of_the_input_is_the_end_of_file_character(rig, text):
    streams = streams_of(rig)
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        child = await rig.run_on_terminal(io, "stty -echo; echo ready; cat; echo end")
        await take_until(out, b"ready\r\n")
        with client_writes(streams.stdin) as stdin:
            os.write(stdin.fileno(), text)
            io.close_stdin()
        expected = text.replace(b"\n", b"\r\n") + b"end\r\n"
        assert await take_until(out, b"end\r\n") == expected
        assert (await child.wait()).status == 0


async def test_a_terminal_that_is_closed_and_opened_again_goes_on(rig):
    streams = streams_of(rig)
    script = "exec <&- >&- 2>&-; exec 1>/dev/tty; echo back"
    with client_reads(streams.stdout) as out:
        io = rig.io(streams)
        child = await rig.run_on_terminal(io, script)
        assert await take_until(out, b"\n") == b"back\r\n"
        await child.wait()
        io.process_ended()
        assert await take_all(out) == b""


async def test_the_end_of_the_process_is_known_before_the_terminal_comes(rig):
    path = rig.fifo("out")
    with client_reads(path) as out:
        io = rig.io(Streams(stdout=path, terminal=True))
        await io.open()
        master, slave = os.openpty()
        send_fds(io, master)
        os.close(master)
        child = rig.spawn(["echo", "quick"], (slave,) * 3)
        os.close(slave)
        await child.wait()
        io.process_ended()
        await io.started()
        assert await take_all(out) == b"quick\r\n"
        await io.drain()


async def test_a_grandchild_that_holds_the_terminal(rig):
    path = rig.fifo("out")
    with client_reads(path) as out, rig.reaper.window() as window:
        io = rig.io(Streams(stdout=path, terminal=True))
        child = await rig.run_on_terminal(io, f"trap '' HUP; echo ok; sleep 1000 & echo $! >{rig.folder}/pid")
        await child.wait()
        rig.children.append(window.adopt(int((rig.folder / "pid").read_text())))
        io.process_ended()
        assert await take_all(out) == b"ok\r\n"
        await io.drain()
        await io.close()


async def test_without_a_client_the_terminal_never_blocks(rig):
    io = rig.io(Streams(terminal=True))
    child = await rig.run_on_terminal(io, "head -c 1000000 /dev/zero; exit 7")
    assert (await child.wait()).status == 7


async def test_output_into_a_file(rig):
    io = rig.io(Streams(stdout=f"file://{rig.folder}/log", stderr="ignored", terminal=True))
    child = await rig.run_on_terminal(io, "echo out; echo err >&2")
    await child.wait()
    io.process_ended()
    await io.drain()
    assert (rig.folder / "log").read_bytes() == b"out\r\nerr\r\n"


async def test_a_terminal_of_the_host_is_input_and_output(rig):
    """As containerd's first API has it: the path of a console, whose other side somebody holds."""
    master, console = map(OwnedFd, os.openpty())
    with master, console:
        make_raw(console.fileno())
        path = os.ttyname(console.fileno())
        io = rig.io(Streams(path, path, terminal=True))
        child = await rig.run_on_terminal(io, "read x; echo got $x; exit 5")
        os.set_blocking(master.fileno(), False)
        os.write(master.fileno(), b"line\n")
        assert await take_until(master, b"got line\r\n") == b"line\r\ngot line\r\n"
        assert (await child.wait()).status == 5
        io.process_ended()
        await io.drain()
        await io.close()
