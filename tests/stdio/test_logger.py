"""Loggers: programs that take a container's output."""

from __future__ import annotations

import asyncio
import os
from functools import partial

import pytest
from support.coroutines import has_children, until
from support.streams import client_writes

from shim._native import Relay
from shim.errors import DeadlineExceeded, Unknown
from shim.stdio import Streams

# Reads both streams to their end, the shell's own descriptors do not keep them open.
COPY = "cat <&3 >{0}/out & cat <&4 >{0}/err & exec 3<&- 4<&-; wait"
READY = "echo >&5; exec 5>&-; "


def logger(rig, script, query=""):
    return f"binary://{rig.script('logger', script.format(rig.folder))}{query}"


def written(rig, name):
    return (rig.folder / name).read_bytes().decode()


@pytest.mark.parametrize("ready", [READY, "exec 5>&-; "])
@pytest.mark.parametrize("scheme", ["binary", "binary-v2"])
async def test_output_reaches_the_logger(rig, scheme, ready):
    uri = logger(rig, ready + COPY).replace("binary", scheme, 1)
    io = rig.io(Streams(stdout=uri, stderr="ignored"))
    if (scheme, ready) == ("binary-v2", "exec 5>&-; "):
        with pytest.raises(Unknown, match=r"logging binary did not call ready \(.*/logger\)"):
            await io.open()
        await until(lambda: not has_children())
        return
    child = await rig.run(io, "echo out; echo err >&2; exit 3")
    assert (await child.wait()).status == 3
    await io.drain()
    assert rig.reaper.children == 1  # the logger outlives the process
    await io.close()
    assert (written(rig, "out"), written(rig, "err")) == ("out\n", "err\n")
    assert len(rig.copier) == 0


async def test_what_a_logger_is_given(rig):
    script = READY + (
        "for word; do echo _${{word}}_; done >{0}/args; "
        "tr '\\0' '\\n' </proc/$$/environ >{0}/env; ls /proc/$$/fd >{0}/fds"
    )
    uri = logger(rig, script, "?key=a%20value&flag&key=second")
    io = rig.io(Streams(stdout=uri), name="box/exec-1", namespace="k8s.io")
    await io.open()
    await io.close()
    assert written(rig, "args") == "_key_\n_a value_\n_flag_\n__\n"
    assert set(written(rig, "env").split()) == {"CONTAINER_ID=exec-1", "CONTAINER_NAMESPACE=k8s.io"}
    # The shell's own are 10 and more; 5 was closed.
    assert {n for n in map(int, written(rig, "fds").split()) if n < 10} == {0, 1, 2, 3, 4}


async def test_a_terminal_s_output_reaches_the_logger(rig):
    streams = Streams(rig.fifo("in"), logger(rig, READY + COPY), terminal=True)
    io = rig.io(streams)
    child = await rig.run_on_terminal(io, "read x; echo got $x; echo err >&2")
    with client_writes(streams.stdin) as stdin:
        os.write(stdin.fileno(), b"it\n")
        await child.wait()
    io.process_ended()
    await io.drain()
    await io.close()
    assert written(rig, "out") == "it\r\ngot it\r\nerr\r\n"
    assert written(rig, "err") == ""


async def test_not_ready_in_time(rig):
    io = rig.io(Streams(stdout=logger(rig, "exec sleep 1000")), logger_timeout_s=0.02)
    with pytest.raises(DeadlineExceeded, match=r"logger .*/logger was not ready within 0.02 s"):
        await io.open()
    assert rig.reaper.children == 0


@pytest.mark.parametrize("scheme", ["binary", "binary-v2"])
@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -SEGV $$", 139), ("exec /absent", 127)])
async def test_it_ends_before_it_is_ready(rig, scheme, script, status):
    io = rig.io(Streams(stdout=logger(rig, script).replace("binary", scheme, 1)))
    with pytest.raises(Unknown, match=f"ended with status {status} before it was ready"):
        await io.open()
    assert rig.reaper.children == 0


async def test_it_ends_well_before_it_is_ready(rig):
    """One that goes into the background may do that; binary-v2 is there for those who want to be sure."""
    io = rig.io(Streams(stdout=logger(rig, "exit 0")))
    await io.open()
    await io.close()


async def test_one_that_reads_slowly_loses_nothing(rig):
    """The end of its input, not a signal, ends it: what it has not read yet is written down."""
    script = READY + "exec 4<&-; while read -r line <&3; do echo $line >>{0}/out; done; echo whole >>{0}/out"
    io = rig.io(Streams(stdout=logger(rig, script)))
    child = await rig.run(io, "seq 2000")
    assert (await child.wait()).status == 0
    await io.close()
    assert written(rig, "out").split() == [*map(str, range(1, 2001)), "whole"]


async def test_one_that_waits_for_its_signal(rig):
    script = "trap 'echo flushed >{0}/out; exit' TERM; " + READY + "while :; do :; done"
    io = rig.io(Streams(stdout=logger(rig, script)), drain_timeout_s=0.05)
    await io.open()
    await io.close()
    assert written(rig, "out") == "flushed\n"
    assert rig.reaper.children == 0


async def test_one_that_takes_no_signal(rig):
    io = rig.io(Streams(stdout=logger(rig, "trap '' TERM; " + READY + "exec sleep 1000")))
    await io.open()
    await io._logger.close(eof_to_term_s=0.05, term_to_kill_s=0.05)
    assert rig.reaper.children == 0
    await io.close()


async def test_a_process_that_outlives_close_does_not_keep_the_logger(rig):
    script = READY + "exec 4<&-; exec cat <&3 >/dev/null"
    io = rig.io(Streams(stdout=logger(rig, script)), drain_timeout_s=0.05)
    child = await rig.run(io, "exec sleep 1000")
    await io.close()
    assert child.exit is None
    assert rig.reaper.children == 1


async def test_one_that_dies_breaks_the_pipe_of_the_process(rig):
    io = rig.io(Streams(stdout=logger(rig, READY + "exec sleep 1000")))
    await io.open()
    (logging,) = rig.reaper._children.values()
    child = rig.spawn(["yes"], io.runtime_fds)
    await io.started()
    logging.send_signal(9)
    assert (await child.wait()).status == 141


async def test_one_that_dies_does_not_stop_a_terminal_for_ever(rig, monkeypatch):
    """The relay keeps the bytes for a reader that may come back, which it cannot know will not, and then drops them."""
    monkeypatch.setattr("shim.stdio.copying.Relay", partial(Relay, give_up=0.05))
    streams = Streams(rig.fifo("in"), logger(rig, READY + "exec sleep 1000"), terminal=True)
    io = rig.io(streams)
    child = await rig.run_on_terminal(io, "read x; head -c 200000 /dev/zero; exit 9")
    (logging,) = (known for known in rig.reaper._children.values() if known is not child)
    logging.send_signal(9)
    await logging.wait()
    with client_writes(streams.stdin) as stdin:
        os.write(stdin.fileno(), b"go\n")
        assert (await child.wait()).status == 9
    io.process_ended()
    await io.drain()
    assert io.dropped >= 200_000


async def test_many_at_once(rig):
    uri = logger(rig, READY + "exec 3<&- 4<&-")
    ios = [rig.io(Streams(stdout=uri)) for _ in range(20)]
    await asyncio.gather(*(io.open() for io in ios))
    await asyncio.gather(*(io.close() for io in ios))
    assert rig.reaper.children == 0
