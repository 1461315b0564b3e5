"""Every way in which opening and starting can fail leaves nothing: no descriptor, process, socket or folder.

That nothing is left is asserted by the fixtures, for every test of this folder.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from contextlib import ExitStack, contextmanager

import pytest
from support import leaks
from support.coroutines import has_children, until
from support.streams import client_reads, send_fds

from shim.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, ShimError, Unknown
from shim.stdio import Streams

LOGGER = "echo >&5; exec 5>&-; cat <&3 >/dev/null & exec cat <&4 >/dev/null"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"stdin": "{}/absent"}, NotFound, "stdin .*/absent"),
        ({"stdin": "{}/file"}, InvalidArgument, "stdin .*/file is neither a FIFO nor a terminal"),
        ({"stdin": "{}/dir"}, InvalidArgument, "stdin .*/dir is neither"),
        ({"stdout": "{}/absent"}, NotFound, "stdout .*/absent"),
        ({"stdout": "{}/dir"}, InvalidArgument, "stdout .*/dir is neither"),
        ({"stdout": "{}/socket"}, InvalidArgument, "stdout .*/socket is neither"),
        ({"stdout": "{}/file/x"}, InvalidArgument, "stdout .*/file/x"),
        ({"stdout": "{}/loop"}, InvalidArgument, "stdout .*/loop"),
        ({"stdin": "{}/fifo", "stdout": "{}/absent"}, NotFound, "stdout .*/absent"),
        (
            {"stdin": "{}/fifo", "stdout": "{}/unread"},
            FailedPrecondition,
            "stdout FIFO .*/unread has no reader",
        ),
        ({"stdout": "file://{}/dir"}, InvalidArgument, "log file .*/dir is there and is no file"),
        ({"stdout": "file://{}/fifo"}, InvalidArgument, "log file .*/fifo is there and is no file"),
        ({"stdout": "file://{}/socket"}, InvalidArgument, "log file .*/socket is there and is no file"),
        ({"stdout": "file://{}/file/a/b"}, InvalidArgument, "log file .*/a/b cannot be opened"),
        ({"stdout": "file:///proc/absent/log"}, NotFound, "log file /proc/absent/log"),
        ({"stdout": f"file://{{}}/{'x' * 300}"}, InvalidArgument, "log file .*xxx"),
        ({"stdout": "binary://{}/absent"}, NotFound, "logger .*/absent cannot be started"),
        ({"stdout": "binary://{}/file"}, ShimError, "logger .*/file cannot be started"),
        ({"stdout": "binary:///bin/false"}, Unknown, "ended with status 1 before it was ready"),
        ({"stdout": "binary-v2:///bin/true"}, Unknown, "did not call ready"),
    ],
)
async def test_streams_that_cannot_be_had(rig, fields, error, text, terminal):
    (rig.folder / "dir").mkdir()
    (rig.folder / "file").touch()
    (rig.folder / "loop").symlink_to("loop")
    rig.fifo("fifo")
    rig.fifo("unread")
    before = leaks.descriptors()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{rig.folder}/socket")
    streams = Streams(**{key: value.format(rig.folder) for key, value in fields.items()}, terminal=terminal)
    with pytest.raises(error, match=text) as caught:
        await rig.io(streams, fifo_timeout_s=0.01).open()
    assert "\n" not in str(caught.value)
    assert leaks.descriptors() == before
    assert not has_children()
    assert list(rig.consoles.iterdir()) == []


async def test_stderr_that_cannot_be_had(rig):
    with client_reads(rig.fifo("out")), pytest.raises(NotFound, match=r"stderr .*/absent"):
        await rig.io(Streams(stdout=f"{rig.folder}/out", stderr=f"{rig.folder}/absent")).open()


@pytest.mark.parametrize("parent", ["/absent", "/proc", f"/tmp/{'x' * 120}"])
async def test_no_place_for_a_console_socket(rig, parent):
    with pytest.raises(ShimError, match="streams of box cannot be opened"):
        await rig.io(Streams(terminal=True), console_parent=parent).open()


async def test_a_console_socket_whose_path_is_too_long(rig):
    parent = rig.folder / ("x" * 100)
    parent.mkdir()
    with pytest.raises(ShimError, match="streams of box cannot be opened: AF_UNIX path too long"):
        await rig.io(Streams(terminal=True), console_parent=str(parent)).open()
    assert list(parent.iterdir()) == []


@contextmanager
def descriptors_up_to(limit):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def few_descriptors(more):
    """At most ``more`` beyond those that are open now. The limit is on numbers, so gaps between them are filled."""
    with ExitStack() as fill:
        highest = max(int(number) for number in os.listdir("/proc/self/fd"))
        while (fd := os.dup(2)) <= highest:
            fill.callback(os.close, fd)
        os.close(fd)
        with descriptors_up_to(fd + more):
            yield


KINDS = ["null", "fifos", "file", "both", "binary", "terminal", "terminal null", "terminal binary"]


def streams_of(rig, kind):
    """The same kinds again and again: FIFOs and scripts are made once."""
    for name in ("in", "out", "err"):
        if not os.path.exists(f"{rig.folder}/{name}"):
            rig.fifo(name)
    stdin, stdout, stderr = (f"{rig.folder}/{name}" for name in ("in", "out", "err"))
    return {
        "null": Streams(),
        "fifos": Streams(stdin, stdout, stderr),
        "file": Streams(stdin, f"file://{rig.folder}/log"),
        "both": Streams(stdin, stdout, stdout),
        "binary": Streams(stdin, f"binary://{rig.script('logger', LOGGER)}"),
        "terminal": Streams(stdin, stdout, terminal=True),
        "terminal null": Streams(terminal=True),
        "terminal binary": Streams(stdin, f"binary://{rig.script('logger', LOGGER)}", terminal=True),
    }[kind]


async def open_and_start(rig, io):
    """What a container does with its streams, up to a running process, which is left out."""
    await io.open()
    if io.streams.terminal:
        with descriptors_up_to(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
            master, slave = os.openpty()
            send_fds(io, master)
            os.close(master)
            os.close(slave)
    await io.started()


@pytest.mark.parametrize("kind", KINDS)
async def test_descriptors_run_out_at_every_step(rig, kind):
    streams = streams_of(rig, kind)
    failures = 0
    for more in range(40):
        before = leaks.descriptors()
        io = rig.io(streams, fifo_timeout_s=0)
        try:
            with few_descriptors(more):
                await open_and_start(rig, io)
        except (ResourceExhausted, Unknown):  # Unknown: there was no room to receive the terminal
            failures += 1
            await io.close()
            rig.copier.close()
            assert leaks.descriptors() == before
            assert list(rig.consoles.iterdir()) == []
        else:
            break
    else:
        pytest.fail("it needs more than 40 descriptors")
    assert failures >= (1 if kind == "null" else 5)


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_at_every_step(rig, kind):
    streams = streams_of(rig, kind)
    rounds, result = 0, None
    while not rounds or result is not None:
        before = leaks.descriptors()
        io = rig.io(streams, fifo_timeout_s=0)
        task = asyncio.create_task(open_and_start(rig, io))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert result is None or isinstance(result, asyncio.CancelledError)
        await io.close()
        rig.copier.close()
        assert leaks.descriptors() == before
        # The first rounds one by one; later ones are spent waiting for a logger.
        rounds += 1 + rounds // 20
    await until(lambda: not has_children())


async def test_cancelled_while_it_waits_for_a_reader(rig):
    io = rig.io(Streams(rig.fifo("in"), rig.fifo("out")))
    opening = asyncio.create_task(io.open())
    await asyncio.sleep(0.01)
    assert not opening.done()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


async def test_closed_while_it_waits_for_a_reader(rig):
    """The container is deleted while an exec is starting."""
    path = rig.fifo("out")
    io = rig.io(Streams(rig.fifo("in"), path))
    opening = asyncio.create_task(io.open())
    await asyncio.sleep(0)
    await io.close()
    with client_reads(path), pytest.raises(FailedPrecondition, match="streams of box are closed"):
        await opening


async def test_closed_while_it_waits_for_the_terminal(rig):
    io = rig.io(Streams(terminal=True))
    await io.open()
    path = io.console_socket
    starting = asyncio.create_task(io.started())
    await asyncio.sleep(0)
    await io.close()
    master, slave = os.openpty()
    with socket.socket(socket.AF_UNIX) as runtime:
        runtime.connect(path)
        socket.send_fds(runtime, [b"x"], [master])
    os.close(master)
    with pytest.raises(FailedPrecondition, match="streams of box are closed"):
        await starting
    assert os.read(slave, 1) == b""  # hung up: nobody holds the master
    os.close(slave)


async def test_cancelled_while_a_logger_is_not_ready(rig):
    io = rig.io(Streams(stdout=f"binary://{rig.script('logger', 'exec sleep 1000')}"))
    opening = asyncio.create_task(io.open())
    await until(lambda: rig.reaper.children)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert rig.reaper.children == 0


async def test_cancelled_while_a_logger_does_not_end(rig):
    script = "trap '' TERM; echo >&5; exec 5>&- sleep 1000"
    io = rig.io(Streams(stdout=f"binary://{rig.script('logger', script)}"), drain_timeout_s=60)
    await io.open()
    closing = asyncio.create_task(io.close())
    await asyncio.sleep(0)
    assert not closing.done()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await until(lambda: not has_children())
