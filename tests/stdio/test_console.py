"""The socket over which an OCI runtime sends a terminal, and what else may come over it."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing, contextmanager, nullcontext

import pytest

from shim.errors import DeadlineExceeded, Unknown
from shim.linux.fd import OwnedFd
from shim.stdio.console import ConsoleSocket

SOON_S = 5.0


@pytest.fixture
def console(state_root):
    with closing(ConsoleSocket(str(state_root))) as console:
        yield console


@contextmanager
def connected(console):
    with socket.socket(socket.AF_UNIX) as runtime:
        runtime.connect(console.path)
        yield runtime


@pytest.fixture
def terminal():
    master, slave = (OwnedFd(fd) for fd in os.openpty())
    with master, slave:
        yield master, slave


async def test_the_terminal_comes(console, terminal):
    master, slave = terminal
    with connected(console) as runtime:
        socket.send_fds(runtime, [b"/dev/ptmx"], [master.fileno()])
    master.close()
    with await console.receive(SOON_S) as received:
        assert not os.get_inheritable(received.fileno())
        os.write(slave.fileno(), b"x")
        assert os.read(received.fileno(), 1) == b"x"


async def test_it_comes_later_and_in_two_steps(console, terminal):
    receiving = asyncio.create_task(console.receive(SOON_S))
    await asyncio.sleep(0)
    with connected(console) as runtime:
        for _ in range(5):
            await asyncio.sleep(0)
        assert not receiving.done()
        socket.send_fds(runtime, [b"x"], [terminal[0].fileno()])
        (await receiving).close()


@pytest.mark.parametrize(
    ("fds", "text"),
    [
        ([], "expected a message with one descriptor, got 0"),
        (["terminal", "terminal"], "expected a message with one descriptor, got 2"),
        (["terminal"] * 20, "expected a message with one descriptor"),
        (["null"], "a descriptor that is no terminal"),
        (["pipe"], "a descriptor that is no terminal"),
    ],
)
async def test_what_is_no_terminal(console, terminal, fds, text):
    read_end, write_end = os.pipe()
    with OwnedFd(os.open(os.devnull, os.O_RDWR)) as null, OwnedFd(read_end) as pipe, OwnedFd(write_end):
        known = {"terminal": terminal[0], "null": null, "pipe": pipe}
        with connected(console) as runtime:
            socket.send_fds(runtime, [b"garbage"], [known[name].fileno() for name in fds])
            with pytest.raises(Unknown, match=f"the OCI runtime sent .*{text}"):
                await console.receive(SOON_S)


async def test_the_runtime_hangs_up(console):
    with connected(console):
        pass
    with pytest.raises(Unknown, match="hung up without sending a descriptor"):
        await console.receive(SOON_S)


@pytest.mark.parametrize("connects", [False, True])
async def test_nothing_comes(console, connects):
    with (
        connected(console) if connects else nullcontext(),
        pytest.raises(DeadlineExceeded, match=r"sent no terminal within 0.01 s"),
    ):
        await console.receive(0.01)


@pytest.mark.parametrize("rounds", range(6))
async def test_cancelled(console, terminal, rounds):
    receiving = asyncio.create_task(console.receive(SOON_S))
    await asyncio.sleep(0)
    with connected(console) as runtime:
        socket.send_fds(runtime, [b"x"], [terminal[0].fileno()])
        for _ in range(rounds):
            await asyncio.sleep(0)
        receiving.cancel()
        (result,) = await asyncio.gather(receiving, return_exceptions=True)
    if isinstance(result, OwnedFd):
        result.close()
    else:
        assert isinstance(result, asyncio.CancelledError)


def test_close_removes_what_it_made(state_root):
    console = ConsoleSocket(str(state_root))
    folder = os.path.dirname(console.path)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    console.close()
    console.close()
    assert not os.path.exists(folder)


def test_somebody_else_removed_it(state_root):
    console = ConsoleSocket(str(state_root))
    os.unlink(console.path)
    os.rmdir(os.path.dirname(console.path))
    console.close()


@pytest.mark.parametrize("parent", ["absent", "x" * 100])
def test_no_place_for_it(tmp_path, parent):
    (tmp_path / ("x" * 100)).mkdir()
    with pytest.raises(OSError, match=r"No such file|AF_UNIX path too long"):
        ConsoleSocket(str(tmp_path / parent))
    assert list((tmp_path / ("x" * 100)).iterdir()) == []
