"""What goes in comes out, whatever the two ends are."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import random
import select
import socket
import threading
import tty

import pytest

SEED = 20261126


def payload(size, seed=SEED):
    return random.Random(seed).randbytes(size)


def in_thread(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def write_in_chunks(fd, data, most, seed=SEED):
    """Writes all of data in chunks of random sizes and closes fd."""
    chance = random.Random(seed)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[: chance.randint(1, most)]) :]
    os.close(fd)


def read_in_chunks(fd, most, seed=SEED):
    chance = random.Random(seed)
    parts = []
    while part := os.read(fd, chance.randint(1, most)):
        parts.append(part)
    return b"".join(parts)


def fifo(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    return path


def pipe_ends(_tmp_path):
    return os.pipe()


def fifo_ends(tmp_path):
    """A FIFO opened for both directions, as the relay's sinks are: no reader can make it fail."""
    path = fifo(tmp_path, f"fifo-{len(list(tmp_path.iterdir()))}")
    keeper = os.open(path, os.O_RDWR)
    ends = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    os.close(keeper)
    return ends


def socket_ends(_tmp_path):
    a, b = socket.socketpair()
    return a.detach(), b.detach()


KINDS = {"pipe": pipe_ends, "fifo": fifo_ends, "socket": socket_ends}


@pytest.mark.parametrize("source_kind", KINDS)
@pytest.mark.parametrize("sink_kind", KINDS)
def test_bytes_arrive_in_order_between_any_two_ends(relay, events, tmp_path, source_kind, sink_kind):
    source, writer = KINDS[source_kind](tmp_path)
    reader, sink = KINDS[sink_kind](tmp_path)
    data = payload(3_000_001)
    stream = relay.add(source, sink)
    in_thread(write_in_chunks, writer, data, 200_000)
    assert read_in_chunks(reader, 100_000) == data
    os.close(reader)
    end = events.wait(stream)
    assert (end.errno, end.copied, end.dropped) == (0, len(data), 0)
    assert events.kinds(stream) == ["end"]


@pytest.mark.parametrize(
    ("written", "read"), [(1, 65536), (100, 7), (4096, 4096), (70_000, 1000), (5000, 300_000)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_small_and_large_chunks_and_slow_readers_change_nothing(relay, events, tmp_path, kind, written, read):
    source, writer = os.pipe()
    reader, sink = KINDS[kind](tmp_path)
    data = payload(written * 500 if written < 1000 else 2_000_000)
    stream = relay.add(source, sink)
    in_thread(write_in_chunks, writer, data, written)
    assert read_in_chunks(reader, read) == data
    os.close(reader)
    assert events.wait(stream).copied == len(data)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_WRONLY | os.O_APPEND])
@pytest.mark.parametrize("kind", KINDS)
def test_file_as_sink(relay, events, tmp_path, kind, flags):
    source, writer = KINDS[kind](tmp_path)
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    sink = os.open(log, flags)
    os.lseek(sink, 0, os.SEEK_END)
    data = payload(500_001)
    stream = relay.add(source, sink)
    write_in_chunks(writer, data, 100_000)
    events.wait(stream)
    assert log.read_bytes() == b"before\n" + data


@pytest.mark.parametrize("kind", KINDS)
def test_file_as_source(relay, events, tmp_path, kind):
    data = payload(1_500_001)
    (tmp_path / "input").write_bytes(data)
    reader, sink = KINDS[kind](tmp_path)
    stream = relay.add(os.open(tmp_path / "input", os.O_RDONLY), sink)
    assert read_in_chunks(reader, 100_000) == data
    os.close(reader)
    events.wait(stream)


def test_file_to_file(relay, events, tmp_path):
    data = payload(3_000_001)
    (tmp_path / "input").write_bytes(data)
    sink = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT)
    events.wait(relay.add(os.open(tmp_path / "input", os.O_RDONLY), sink))
    assert (tmp_path / "output").read_bytes() == data


def test_dev_null_swallows_all(relay, events):
    source, writer = os.pipe()
    stream = relay.add(source, os.open(os.devnull, os.O_WRONLY))
    write_in_chunks(writer, payload(1_000_000), 70_000)
    assert events.wait(stream).copied == 1_000_000


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 1_000_001])
def test_pty_as_source_ends_after_its_last_byte(relay, events, size):
    master, slave = os.openpty()
    tty.setraw(slave)
    reader, sink = os.pipe()
    data = payload(size)
    stream = relay.add(master, sink)
    in_thread(write_in_chunks, slave, data, 5000)
    assert read_in_chunks(reader, 65536) == data
    os.close(reader)
    end = events.wait(stream)
    assert (end.errno, end.copied) == (0, size)


def test_what_a_terminal_holds_goes_on_in_one_piece(relay):
    """A read of a pty gives 4 KiB at most; its reader is not woken for each of them."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    held = fill(slave)
    reader, sink = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    relay.add(master, sink.detach())
    with reader:
        reader.settimeout(10)
        assert 4096 < len(reader.recv(1 << 20)) <= held
    os.close(slave)


def test_pty_as_sink_waits_for_its_slave(relay, events):
    """A raw pty holds some 70 KiB; the rest waits in the relay and in the pipe, and nothing is cut."""
    master, slave = os.openpty()
    tty.setraw(slave)
    source, writer = os.pipe()
    data = payload(400_000)
    stream = relay.add(source, os.dup(master))
    in_thread(write_in_chunks, writer, data, 50_000)
    got = b""
    while len(got) < len(data):
        got += os.read(slave, 1000)
    assert got == data
    assert events.wait(stream).copied == len(data)
    os.close(master)
    os.close(slave)


def test_eof_bytes_follow_the_last_byte(relay, events):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    stream = relay.add(source, sink, eof=b"\x04end")
    os.write(writer, b"data")
    os.close(writer)
    assert read_in_chunks(reader, 100) == b"data\x04end"
    os.close(reader)
    assert events.wait(stream).copied == 4


def test_eof_bytes_end_the_input_of_a_terminal(relay, events):
    master, slave = os.openpty()
    source, writer = os.pipe()
    stream = relay.add(source, os.dup(master), eof=b"\x04")
    os.write(writer, b"line\n")
    os.close(writer)
    assert os.read(slave, 100) == b"line\n"
    assert os.read(slave, 100) == b""
    assert events.wait(stream).copied == 5
    os.close(slave)
    os.close(master)


def test_empty_stream_ends(relay, events):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    os.close(writer)
    stream = relay.add(source, sink)
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert events.wait(stream).copied == 0


def test_fifo_that_never_had_a_writer_is_not_at_its_end(relay, events, tmp_path):
    path = fifo(tmp_path, "stdin")
    reader, sink = os.pipe()
    stream = relay.add(os.open(path, os.O_RDONLY | os.O_NONBLOCK), sink)
    source, other_writer = os.pipe()
    os.close(other_writer)
    events.wait(
        relay.add(source, os.open(os.devnull, os.O_WRONLY))
    )  # by now the first one has been looked at
    assert events.kinds(stream) == []
    path.write_bytes(b"late")  # open, write, close
    assert read_in_chunks(reader, 100) == b"late"
    os.close(reader)
    events.wait(stream)


def test_fifo_ends_with_its_last_writer(relay, events, tmp_path):
    path = fifo(tmp_path, "stdin")
    reader, sink = os.pipe()
    stream = relay.add(os.open(path, os.O_RDONLY | os.O_NONBLOCK), sink)
    first = os.open(path, os.O_WRONLY)
    second = os.open(path, os.O_WRONLY)
    os.write(first, b"one ")
    os.close(first)
    assert os.read(reader, 100) == b"one "
    assert events.poll() == []
    os.write(second, b"two")
    os.close(second)
    assert read_in_chunks(reader, 100) == b"two"
    os.close(reader)
    events.wait(stream)


def test_source_that_fails_ends_the_stream_with_its_errno(relay, events, tmp_path):
    reader, sink = os.pipe()
    end = events.wait(relay.add(os.open(tmp_path, os.O_RDONLY), sink))
    assert end.errno == errno.EISDIR
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_end_is_told_after_both_fds_are_closed(relay, events):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    stream = relay.add(source, sink)
    os.close(writer)
    events.wait(stream)
    for fd in (source, sink):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    os.close(reader)


def test_full_sink_of_one_stalls_none_of_a_hundred(relay, events):
    stuck_source, stuck_writer = os.pipe()
    stuck_reader, stuck_sink = os.pipe()
    stuck = relay.add(stuck_source, stuck_sink)
    os.set_blocking(stuck_writer, False)
    held = fill(stuck_writer)
    pairs = {}
    for number in range(99):
        source, writer = os.pipe()
        reader, sink = os.pipe()
        pairs[relay.add(source, sink)] = (writer, reader, payload(200_000, number))
    writers = [in_thread(write_in_chunks, writer, data, 30_000) for writer, _, data in pairs.values()]
    for stream, (_, reader, data) in pairs.items():
        assert read_in_chunks(reader, 65536) == data
        os.close(reader)
        assert events.wait(stream).copied == len(data)
    for thread in writers:
        thread.join()
    assert events.kinds(stuck) == []
    os.close(stuck_writer)
    assert len(read_in_chunks(stuck_reader, 65536)) == held
    os.close(stuck_reader)
    events.wait(stuck)


def fill(fd):
    """Writes into a non-blocking fd until nobody takes any more; returns how much. Both pipes are full then."""
    total = refusals = 0
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    while poller.poll(200):
        try:
            total += os.write(fd, bytes(65536))
        except BlockingIOError:
            refusals += 1
    return total


def pipe_sizes(*fds):
    return {fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) for fd in fds}


def test_only_a_busy_stream_has_large_pipes(relay, events):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    small = pipe_sizes(writer, reader)
    stream = relay.add(source, sink)
    for _ in range(1000):
        os.write(writer, b"question\n")
        assert os.read(reader, 100) == b"question\n"
    assert pipe_sizes(writer, reader) == small
    thread = in_thread(read_in_chunks, reader, 1 << 20)
    events.until(lambda: os.write(writer, bytes(1 << 20)) and pipe_sizes(writer, reader) == {1 << 20})
    os.close(writer)
    events.wait(stream)
    thread.join()
    os.close(reader)


def test_reader_that_goes_away_and_comes_back_loses_nothing(relay, events, tmp_path):
    path = fifo(tmp_path, "stdout")
    source, writer = os.pipe()
    stream = relay.add(source, os.open(path, os.O_RDWR))
    # When the reader goes for the last time the pipes cannot hold the rest, or it would go, too.
    data = payload(6_000_000)
    thread = in_thread(write_in_chunks, writer, data, 10_000)
    got = b""
    for most in (1000, 300_000, 1_000_000):
        with path.open("rb", buffering=0) as reader:
            part = b""
            while len(part) < most:
                part += reader.read(most - len(part))
            got += part
    with path.open("rb", buffering=0) as reader:
        got += reader.read(1)
        got += read_in_chunks(reader.fileno(), 65536)
    assert got == data
    thread.join()
    assert events.wait(stream).copied == len(data)
    assert events.kinds(stream) == ["end"]


@pytest.mark.slow
def test_a_gibibyte_has_the_same_hash_on_both_sides(relay, events, tmp_path):
    path = fifo(tmp_path, "stdout")
    source, writer = os.pipe()
    stream = relay.add(source, os.open(path, os.O_RDWR))
    block = payload(8 << 20)
    sent = hashlib.sha256()

    def write():
        for turn in range(128):
            part = block[turn:] + block[:turn]
            sent.update(part)
            view = memoryview(part)
            while view:
                view = view[os.write(writer, view) :]
        os.close(writer)

    thread = in_thread(write)
    received = hashlib.sha256()
    with path.open("rb", buffering=0) as reader:
        while part := reader.read(1 << 20):
            received.update(part)
    thread.join()
    assert received.digest() == sent.digest()
    assert events.wait(stream).copied == 1 << 30
