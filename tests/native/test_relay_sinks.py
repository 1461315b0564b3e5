"""A sink that fails: the bytes are kept, the failure is told, and after a while nobody is held up by it."""

from __future__ import annotations

import errno
import math
import os
import random
import select
import subprocess
import sys
import threading

import pytest

PIPE_BYTES = 65536


def broken_fifo(tmp_path):
    """A FIFO's write end whose reader went away: EPIPE until a new one comes."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = os.open(path, os.O_WRONLY)
    os.close(reader)
    return path, sink


def read_to_end(fd):
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_failure_is_told_once_with_its_errno(relay, events, kind, make_ends):
    source, writer = make_ends(kind)
    stream = relay.add(source, os.open("/dev/full", os.O_WRONLY))
    os.write(writer, b"data")
    stalled = events.wait(stream, "stalled")
    assert (stalled.errno, stalled.copied, stalled.dropped) == (errno.ENOSPC, 0, 0)
    assert relay.pending(stream) == 4
    os.close(writer)
    relay.cancel(stream)
    end = events.wait(stream)
    assert (end.errno, end.copied, end.dropped) == (0, 0, 4)
    assert events.kinds(stream) == ["stalled", "dropped", "end"]


def test_reader_that_comes_back_gets_everything(relay, events, tmp_path):
    path, sink = broken_fifo(tmp_path)
    source, writer = os.pipe()
    stream = relay.add(source, sink)
    data = random.Random(7).randbytes(PIPE_BYTES)
    os.write(writer, data)
    assert events.wait(stream, "stalled").errno == errno.EPIPE
    with path.open("rb", buffering=0) as reader:
        assert events.wait(stream, "resumed").errno == 0
        os.close(writer)
        assert read_to_end(reader.fileno()) == data
    end = events.wait(stream)
    assert (end.copied, end.dropped) == (len(data), 0)
    assert events.kinds(stream) == ["stalled", "resumed", "end"]


def test_untold_recoveries_merge_into_one_failure(relay, events, tmp_path):
    """Events are bounded: who does not look meanwhile sees each kind once, in order, and the last state."""
    path, sink = broken_fifo(tmp_path)
    source, writer = os.pipe()
    stream = relay.add(source, sink)
    for turn in range(3):
        os.write(writer, b"%d" % turn)  # kept: nobody reads
        assert select.select([relay], [], [], 10)[0]  # the first time it has to be seen before somebody reads
        with path.open("rb", buffering=0) as reader:
            assert reader.read(1) == b"%d" % turn
    os.close(writer)
    assert events.wait(stream).copied == 3
    assert events.kinds(stream) == ["stalled", "resumed", "end"]


def test_writer_is_let_go_when_the_sink_fails_for_too_long(make_relay, tmp_path):
    """More than all pipes hold can be written; what was lost is counted to the byte and told at recovery."""
    relay, events = make_relay(give_up=0.2)
    path, sink = broken_fifo(tmp_path)
    source, writer = os.pipe()
    stream = relay.add(source, sink)
    lost = bytes(10 * PIPE_BYTES)
    sent = 0
    while sent < len(lost):
        sent += os.write(writer, lost[sent:])
    assert "stalled" in events.kinds(stream) or events.wait(stream, "stalled")
    with path.open("rb", buffering=0) as reader:
        while "resumed" not in events.kinds(stream):
            sent += os.write(writer, b"x" * 100)
            select.select([relay], [], [], 0.05)
            events.poll()
        os.close(writer)
        kept = read_to_end(reader.fileno())
    end = events.wait(stream)
    dropped = events.wait(stream, "dropped")
    assert events.kinds(stream) == ["stalled", "dropped", "resumed", "end"]
    assert dropped.errno == errno.EPIPE
    assert end.dropped == dropped.dropped >= len(lost)
    assert end.copied == len(kept)
    assert end.copied + end.dropped == sent
    assert kept == b"x" * len(kept)


def test_broken_sink_of_a_stream_without_bytes_is_no_failure(relay, events, tmp_path):
    """splice(2) says EPIPE before it looks whether there is anything to move."""
    _, sink = broken_fifo(tmp_path)
    source, writer = os.pipe()
    stream = relay.add(source, sink)
    os.close(writer)
    assert events.wait(stream).dropped == 0
    assert events.kinds(stream) == ["end"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_end_of_a_stream_whose_sink_never_works(make_relay, make_ends, kind):
    relay, events = make_relay(give_up=0.0)
    source, writer = make_ends(kind)
    stream = relay.add(source, os.open("/dev/full", os.O_WRONLY), eof=b"\x04")
    sent = 0
    while sent < 1_000_000:
        sent += os.write(writer, bytes(1_000_000 - sent))
    os.close(writer)
    end = events.wait(stream)
    assert (end.errno, end.copied, end.dropped) == (0, 0, 1_000_000)
    assert events.kinds(stream) == ["stalled", "dropped", "end"]
    assert events.wait(stream, "dropped").errno == errno.ENOSPC


def test_end_of_a_stream_waits_for_a_failing_sink_no_longer_than_give_up(make_relay):
    relay, events = make_relay(give_up=0.3)
    source, writer = os.pipe()
    stream = relay.add(source, os.open("/dev/full", os.O_WRONLY))
    os.write(writer, b"last words")
    os.close(writer)
    assert events.wait(stream).dropped == len(b"last words")


def test_never_giving_up_keeps_the_bytes(make_relay):
    relay, events = make_relay(give_up=math.inf)
    source, writer = os.pipe()
    stream = relay.add(source, os.open("/dev/full", os.O_WRONLY))
    os.write(writer, b"kept")
    os.close(writer)
    events.wait(stream, "stalled")
    assert relay.pending(stream) == 4
    relay.cancel(stream)
    assert events.wait(stream).dropped == 4


def test_a_failing_sink_stalls_no_other_stream(relay, events):
    source, writer = os.pipe()
    failing = relay.add(source, os.open("/dev/full", os.O_WRONLY))
    os.write(writer, b"data")
    events.wait(failing, "stalled")
    other_source, other_writer = os.pipe()
    reader, sink = os.pipe()
    relay.add(other_source, sink)
    os.write(other_writer, b"ping")
    assert os.read(reader, 10) == b"ping"
    for fd in (writer, other_writer, reader):
        os.close(fd)


def test_file_size_limit_is_a_failure_like_others(tmp_path):
    """SIGXFSZ would end the process if the thread did not block it."""
    script = """
import os, resource, select, sys
from shim._native import Relay
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
source, writer = os.pipe()
with Relay() as relay:
    relay.add(source, os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT))
    os.write(writer, bytes(2000))
    select.select([relay], [], [])
    print(os.strerror(relay.poll()[0].errno), os.path.getsize(sys.argv[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")], check=True, capture_output=True, timeout=30
    )
    assert done.stdout == b"File too large 1000\n"


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.root
@pytest.mark.parametrize("flags", [os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_APPEND])
def test_full_disk_costs_nothing_when_room_is_made_in_time(relay, events, small_disk, flags):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(128 << 10))
    log = small_disk / "log"
    source, writer = os.pipe()
    stream = relay.add(source, os.open(log, flags))
    data = random.Random(3).randbytes(200 << 10)

    def write():
        view = memoryview(data)
        while view:
            view = view[os.write(writer, view) :]
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    stalled = events.wait(stream, "stalled")
    assert stalled.errno == errno.ENOSPC
    assert 0 < stalled.copied <= 128 << 10
    ballast.unlink()
    events.wait(stream, "resumed")
    thread.join()
    end = events.wait(stream)
    assert (end.copied, end.dropped) == (len(data), 0)
    assert log.read_bytes() == data
