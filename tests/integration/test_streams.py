"""Standard streams through a whole shim: byte for byte, at any time, whatever the client does."""

from __future__ import annotations

import array
import fcntl
import hashlib
import json
import os
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.client_streams import until
from support.shims import raises

from shim.errors import FailedPrecondition, InvalidArgument, ShimError

pytestmark = pytest.mark.root

MIB = 1 << 20


def test_the_size_of_a_terminal_that_is_not_there_yet(shim, runtime):
    streams = shim.streams(terminal=True)
    container = shim.container(["stty", "size"], streams=streams, runtime=runtime)
    container.call("ResizePty", width=111, height=33)
    container.start()
    assert container.wait() == 0
    container.delete()
    assert streams.read() == b"33 111\r\n"


def test_the_size_of_the_terminal_of_an_exec(shim, runtime):
    """crun 1.8 sets none for an exec, whatever its process says: the shim does, in the moment in which it may run already."""
    container = shim.running(runtime=runtime)
    streams = shim.streams(terminal=True, stdin=True)
    late = (
        'until [ "$(stty size)" = "33 111" ]; do sleep 0.01; done 2> /dev/null; ' if runtime == "crun" else ""
    )
    container.add_exec("e", ["sh", "-c", f"{late}stty size; read x; stty size"], streams)
    container.call("ResizePty", exec_id="e", width=111, height=33)
    container.start("e")
    streams.read_until(b"33 111\r\n")
    container.call("ResizePty", exec_id="e", width=120, height=40)
    streams.write(b"\n")
    streams.read_until(b"40 120\r\n")
    assert container.wait("e") == 0
    container.delete("e")
    container.end()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_end_is_told_when_clients_have_the_output(shim, terminal):
    """Those of containerd stop reading then, whatever lies in their FIFOs."""
    say = ["sh", "-c", 'all=$(seq 1000); echo "$all"']
    container = shim.running()
    for exec_id in ("", "e"):
        streams = shim.streams(terminal=terminal)
        target = container if exec_id else shim.container(say, streams=streams)
        if exec_id:
            target.add_exec(exec_id, say, streams)
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(read_slowly, streams.reader())
            target.start(exec_id)
            assert target.wait(exec_id) == 0
            left = bytes_in(streams.reader())
            lines = reading.result()
        assert left == 0
        assert lines.split() == [str(number).encode() for number in range(1, 1001)]
        target.delete(exec_id)


def read_slowly(fd: int) -> bytes:
    """All of it, a piece every millisecond."""
    data = b""
    while b"1000" not in data:
        until(lambda: bytes_in(fd), "output")
        time.sleep(0.001)
        data += os.read(fd, 512)
    return data


def bytes_in(fd: int) -> int:
    buffer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, buffer)
    return buffer[0]


def test_a_terminal_echoes_and_signals(shim, runtime):
    streams = shim.streams(terminal=True, stdin=True)
    container = shim.running(
        ["sh", "-c", "trap 'exit 5' INT; echo up; cat; while :; do sleep 0.01; done"],
        streams=streams,
        runtime=runtime,
    )
    streams.read_until(b"up\r\n")
    streams.write(b"typed\n")
    streams.read_until(b"typed\r\ntyped\r\n")
    streams.write(b"\x03")
    assert container.wait() == 5
    container.delete()


@pytest.mark.parametrize("when", ["before the start", "after the start", "twice"])
def test_stdin_ends_when_it_is_closed(shim, runtime, when):
    streams = shim.streams(stdin=True)
    container = shim.container(["sh", "-c", "cat; echo end"], streams=streams, runtime=runtime)
    streams.write(b"in flight ")
    if when != "after the start":
        container.call("CloseIO", stdin=True)
        streams.close_stdin()
    container.start()
    if when != "before the start":
        container.call("CloseIO", stdin=True)
        streams.close_stdin()
    assert container.wait() == 0
    container.call("CloseIO", stdin=True)
    container.delete()
    assert streams.read() == b"in flight end\n"


def test_stdin_stays_open_while_clients_come_and_go(shim):
    streams = shim.streams(stdin=True)
    container = shim.running(["cat"], streams=streams)
    for word in (b"one ", b"two ", b"three"):
        streams.write(word)
        streams.close_stdin()
        streams.read_until(word)
    container.call("CloseIO", stdin=True)
    assert container.wait() == 0
    container.delete()
    assert streams.read() == b"one two three"


def test_a_reader_that_comes_back_loses_nothing(shim):
    streams = shim.streams(stdin=True)
    container = shim.running(["cat"], streams=streams)
    streams.write(b"one ")
    streams.read_until(b"one ")
    streams.close_reader()
    streams.write(b"two ")
    container.exec("e", ["true"])
    assert container.wait("e") == 0
    streams.open_reader()
    streams.write(b"three")
    container.call("CloseIO", stdin=True)
    streams.close_stdin()
    assert container.wait() == 0
    container.delete()
    assert streams.read() == b"one two three"


def test_a_slow_reader_holds_up_nobody_else(shim):
    slow, fast = shim.streams(), shim.streams()
    chatty = shim.running(["sh", "-c", "yes"], streams=slow, drain_timeout=0.1)
    other = shim.running(["sh", "-c", "head -c 3000000 /dev/zero"], streams=fast)
    assert len(fast.read()) == 3_000_000
    assert other.wait() == 0
    assert chatty.state() == "RUNNING"
    other.delete()
    assert chatty.end() == 137


def readable_bytes(fd: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def test_output_of_an_unread_stream_is_counted_when_it_is_dropped(shim):
    streams = shim.streams()
    container = shim.running(["sh", "-c", "yes | head -c 150000"], streams=streams, drain_timeout=0.2)
    # 64 KiB fit the pipe, 64 KiB the FIFO: the process waits for a reader that does not come.
    until(lambda: readable_bytes(streams.reader()) == 65536, "a full FIFO")
    assert container.state() == "RUNNING"
    container.kill()
    assert container.wait() == 137
    container.delete()
    assert len(streams.read()) >= 65536
    assert "bytes dropped" in shim.process.log.read_text()


def test_an_output_without_a_reader_is_refused(shim):
    streams = shim.streams()
    streams.close_reader()
    with raises(FailedPrecondition, "stdout", streams.fields["stdout"], "no reader"):
        shim.container(streams=streams, fifo_timeout=0.2)
    container = shim.running(fifo_timeout=0.2)
    container.add_exec("e", ["true"], streams)
    with raises(FailedPrecondition, "no reader"):
        container.start("e")
    assert container.wait("e") == 255
    container.end()


def test_an_output_that_waits_for_its_reader_in_the_fifo(shim):
    streams = shim.streams()
    streams.close_reader()
    container = shim.running(["echo", "early"], streams=streams, fifo_timeout=0.0)
    assert container.wait() == 0
    streams.open_reader()
    assert streams.read_until(b"early\n")
    container.delete()


def test_a_log_file(shim, runtime, tmp_path):
    log = tmp_path / "new" / "log"
    container = shim.running(["sh", "-c", "echo out; echo err >&2"], stdout=f"file://{log}", runtime=runtime)
    assert container.wait() == 0
    container.delete()
    assert sorted(log.read_text().split()) == ["err", "out"]


def test_a_log_file_that_cannot_be_written(shim, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (
        tmp_path / "file" / "log",
        tmp_path,
        Path("/proc/1/log"),
        Path("/proc/nothing/log"),
    ):
        with pytest.raises(ShimError, match=str(path)):
            shim.container(stdout=f"file://{path}")


def test_a_logger_program(shim, runtime, tmp_path):
    logger = tmp_path / "logger"
    logger.write_text(f"""#!/bin/sh
        exec 5>&-
        cat <&3 > {tmp_path}/out
        cat <&4 > {tmp_path}/err
        echo "$CONTAINER_ID $1 $2" > {tmp_path}/about""")
    logger.chmod(0o755)
    script = ["sh", "-c", "echo out; echo err >&2"]
    container = shim.running(script, stdout=f"binary://{logger}?key=value", runtime=runtime)
    assert container.wait() == 0
    container.delete()
    found = [(tmp_path / name).read_text() for name in ("out", "err", "about")]
    assert found == ["out\n", "err\n", f"{container.id} key value\n"]


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_an_unknown_scheme(shim, scheme):
    with raises(InvalidArgument, "unknown STDIO scheme", scheme):
        shim.container(stdout=f"{scheme}://somewhere")


@pytest.mark.slow
def test_a_gibibyte_arrives_byte_for_byte(shim, tmp_path):
    streams = shim.streams()
    block = os.urandom(MIB)
    data = tmp_path / "data"
    data.mkdir()
    (data / "block").write_bytes(block)
    script = ["sh", "-c", "i=0; while [ $i -lt 1024 ]; do cat /root/block; i=$((i+1)); done"]
    bundle = shim.make_bundle(script)
    config = json.loads((bundle / "config.json").read_text())
    config["mounts"].append(
        {"destination": "/root", "type": "bind", "source": str(data), "options": ["bind"]}
    )
    (bundle / "config.json").write_text(json.dumps(config))
    container = shim.running(bundle, streams=streams)
    found, size = hashlib.sha256(), 0
    os.set_blocking(streams.reader(), True)
    while chunk := os.read(streams.reader(), MIB):
        found.update(chunk)
        size += len(chunk)
    assert container.wait() == 0
    container.delete()
    expected = hashlib.sha256()
    for _ in range(1024):
        expected.update(block)
    assert (size, found.hexdigest()) == (1024 * MIB, expected.hexdigest())
