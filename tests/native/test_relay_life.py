"""finish, cancel, close: how streams and relays end, and that they leave nothing."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import subprocess
import threading
import tty
import warnings
from pathlib import Path

import pytest
import shim._ffi
from support.streams import relay_threads

from shim._native import Relay, spawn

PIPE_BYTES = 65536


def fd_count():
    return len(os.listdir("/proc/self/fd"))


def rss_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def read_to_end(fd):
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    os.close(fd)
    return b"".join(parts)


def test_finish_delivers_what_is_there_while_somebody_holds_the_pipe(relay, events):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    os.write(writer, b"last words")
    stream = relay.add(source, sink)
    relay.finish(stream)
    assert read_to_end(reader) == b"last words"
    assert events.wait(stream).copied == len(b"last words")
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"nobody hears")
    os.close(writer)


@pytest.mark.parametrize("seed", range(5))
def test_finish_takes_all_of_full_pipes_through_a_slow_reader(relay, events, seed):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    os.set_blocking(writer, False)
    stream = relay.add(source, sink)
    chance = random.Random(seed)
    data = chance.randbytes(4 * PIPE_BYTES)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += os.write(writer, data[sent : sent + chance.randint(1, 9000)])
    relay.finish(stream)
    got = b""
    while part := os.read(reader, 1000):
        got += part
    assert got == data[:sent]
    assert events.wait(stream).copied == sent
    os.close(reader)
    os.close(writer)


def test_finish_ends_though_a_grandchild_writes_for_ever(relay, events):
    """The background process keeps the write end and writes on; only what was there at finish is awaited."""
    source, writer = os.pipe()
    reader, sink = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    command = [b"/bin/sh", b"-c", b"while :; do echo noise; done & echo $!"]
    pid, pidfd = spawn(command, [], [null, writer, null])
    stream = relay.add(source, sink)
    os.close(writer)
    os.close(null)
    os.waitpid(pid, 0)
    os.close(pidfd)
    relay.finish(stream)
    output = read_to_end(reader)
    end = events.wait(stream)
    assert [line for line in output.splitlines() if line.isdigit()]
    assert (end.copied, end.dropped) == (len(output), 0)
    # The closed pipe has ended the background process by now or ends it with its next write.


def test_finish_of_a_quiet_stream_ends_it_at_once(relay, events):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    stream = relay.add(source, sink, eof=b"\x04")
    relay.finish(stream)
    relay.finish(stream)
    assert read_to_end(reader) == b"\x04"
    assert events.wait(stream).copied == 0
    os.close(writer)


def test_pty_without_slave_goes_on_until_finish(relay, events):
    """All slaves closed for a moment, as between two processes on one terminal: EIO is no end yet."""
    master, slave = os.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    reader, sink = os.pipe()
    stream = relay.add(master, sink, pty=True)
    os.write(slave, b"first")
    os.close(slave)
    assert os.read(reader, 100) == b"first"
    slave = os.open(name, os.O_RDWR | os.O_NOCTTY)
    os.write(slave, b"second")
    assert os.read(reader, 100) == b"second"
    os.close(slave)
    assert events.poll() == []
    relay.finish(stream)
    assert read_to_end(reader) == b""
    assert events.wait(stream).copied == len(b"firstsecond")


@pytest.mark.parametrize("slave_stays_open", [True, False])
@pytest.mark.parametrize("pty", [True, False])
def test_finish_takes_all_that_a_terminal_holds(relay, events, slave_stays_open, pty):
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    reader, sink = os.pipe()
    os.set_blocking(sink, False)
    full = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            full += os.write(sink, bytes(4096))
    stream = relay.add(master, sink, pty=pty)
    data = random.Random(5).randbytes(200_000)
    written = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            written += os.write(slave, data[written:])
    if not slave_stays_open:
        os.close(slave)
    relay.finish(stream)
    assert read_to_end(reader)[full:] == data[:written]
    assert events.wait(stream).copied == written
    if slave_stays_open:
        os.close(slave)


def test_cancel_ends_at_once_and_counts_what_was_not_written(relay, events):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    os.set_blocking(writer, False)
    stream = relay.add(source, sink)
    os.write(writer, b"x")
    assert os.read(reader, 1) == b"x"
    sent = 1 + os.write(writer, bytes(PIPE_BYTES))
    relay.cancel(stream)
    end = events.wait(stream)
    received = read_to_end(reader)
    assert end.copied == 1 + len(received)
    assert end.copied + end.dropped == sent
    os.close(writer)


def test_cancel_counts_pending_bytes(relay, events, tmp_path):
    """A file is copied, not spliced: what the full pipe did not take is pending in the relay."""
    (tmp_path / "input").write_bytes(bytes(500_000))
    reader, sink = os.pipe()
    stream = relay.add(os.open(tmp_path / "input", os.O_RDONLY), sink)
    events.until(lambda: relay.pending(stream))
    assert relay.pending(stream) <= 65536
    relay.cancel(stream)
    end = events.wait(stream)
    assert relay.pending(stream) == 0
    assert end.dropped == 500_000 - end.copied
    assert len(read_to_end(reader)) == end.copied


def test_commands_for_streams_that_ended_or_never_were_do_nothing(relay, events):
    source, writer = os.pipe()
    os.close(writer)
    stream = relay.add(source, os.open(os.devnull, os.O_WRONLY))
    events.wait(stream)
    for number in (stream, 12345):
        relay.finish(number)
        relay.cancel(number)
        assert relay.pending(number) == 0
    assert events.poll() == events.seen
    assert len(events.seen) == 1


def test_ids_are_never_used_again(relay, events):
    seen = set()
    for _ in range(20):
        source, writer = os.pipe()
        os.close(writer)
        stream = relay.add(source, os.open(os.devnull, os.O_WRONLY))
        events.wait(stream)
        assert stream not in seen
        seen.add(stream)


def test_many_ends_arrive_through_one_poll(relay, events):
    """More events than one call of the extension returns."""
    fds = fd_count()
    source, writer = os.pipe()
    os.close(writer)
    streams = [relay.add(os.dup(source), os.open(os.devnull, os.O_WRONLY)) for _ in range(300)]
    streams.append(relay.add(source, os.open(os.devnull, os.O_WRONLY)))
    events.until(lambda: fd_count() == fds)
    events.until(lambda: len(events.poll()) >= len(streams))
    assert sorted(event.stream for event in events.seen) == streams
    assert relay.poll() == []


@pytest.mark.parametrize("wrong", ["closed source", "closed sink", "source for writing", "sink for reading"])
def test_add_owns_both_fds_even_when_it_refuses_them(relay, wrong):
    source, writer = os.pipe()
    reader, sink = os.pipe()
    before = fd_count()
    arguments = {
        "closed source": (9999, sink),
        "closed sink": (source, 9999),
        "source for writing": (writer, sink),
        "sink for reading": (source, reader),
    }[wrong]
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        relay.add(*arguments)
    assert caught.value.errno == errno.EBADF
    assert before - fd_count() == sum(fd != 9999 for fd in arguments)
    for fd in {source, writer, reader, sink} - set(arguments):
        os.close(fd)


def test_one_fd_for_both_sides_is_refused(relay):
    fd = os.open(os.devnull, os.O_RDWR)
    with pytest.raises(OSError, match="Invalid argument"):
        relay.add(fd, fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_close_with_live_streams_closes_their_fds():
    relay = Relay()
    source, writer = os.pipe()
    reader, sink = os.pipe()
    relay.add(source, sink)
    os.write(writer, b"x")
    assert os.read(reader, 1) == b"x"
    relay.close()
    relay.close()
    assert read_to_end(reader) == b""
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


def test_closed_relay_refuses_everything_and_still_owns_the_fds():
    relay = Relay()
    relay.close()
    source, writer = os.pipe()
    with pytest.raises(ValueError, match="closed"):
        relay.add(source, writer)
    for fd in (source, writer):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    for call in (relay.poll, relay.fileno, lambda: relay.cancel(1), lambda: relay.finish(1)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_forgotten_relay_ends_its_thread():
    before = relay_threads()
    relay = Relay()
    assert relay_threads() == before + 1
    del relay
    gc.collect()
    assert relay_threads() == before


def test_fork_of_a_process_with_a_relay_is_harmless():
    """A forked process has no thread to join; dropping its copy must not wait for one."""
    relay = Relay()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: fork with threads, the very point here
        pid = os.fork()
    if pid == 0:
        relay.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    source, writer = os.pipe()
    reader, sink = os.pipe()
    relay.add(source, sink)
    os.write(writer, b"alive")
    assert os.read(reader, 10) == b"alive"
    relay.close()
    os.close(writer)
    os.close(reader)


def one_life(streams):
    relay = Relay()
    others = []
    for number in range(streams):
        source, writer = os.pipe()
        reader, sink = os.pipe()
        os.set_blocking(writer, False)
        stream = relay.add(source, sink)
        others += [writer, reader]
        os.write(writer, bytes(PIPE_BYTES))
        if number % 4 == 1:
            relay.finish(stream)
        if number % 4 == 2:
            relay.cancel(stream)
        if number % 4 == 3:
            relay.poll()
    relay.close()
    for fd in others:
        os.close(fd)


def test_a_thousand_streams_in_a_hundred_relays_leave_nothing():
    for _ in range(20):
        one_life(10)
    threads, fds, rss = relay_threads(), fd_count(), rss_kib()
    for _ in range(100):
        one_life(10)
    assert (relay_threads(), fd_count()) == (threads, fds)
    assert rss_kib() - rss < 1024


def test_streams_of_one_relay_leave_nothing(relay, events, tmp_path):
    """Short writes (files into slow pipes) own memory; it goes with the stream."""
    (tmp_path / "input").write_bytes(bytes(100_000))

    def once():
        reader, sink = os.pipe()
        stream = relay.add(os.open(tmp_path / "input", os.O_RDONLY), sink)
        assert len(read_to_end(reader)) == 100_000
        events.wait(stream)
        events.seen.clear()

    for _ in range(100):
        once()
    fds, rss = fd_count(), rss_kib()
    for _ in range(1000):
        once()
    assert fd_count() == fds
    assert rss_kib() - rss < 1024


def test_relays_of_many_threads_are_independent():
    failures = []

    def work(seed):
        with Relay() as relay:
            source, writer = os.pipe()
            reader, sink = os.pipe()
            relay.add(source, sink)
            data = random.Random(seed).randbytes(50_000)
            os.write(writer, data)
            os.close(writer)
            if read_to_end(reader) != data:
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_extension_is_one_for_all_pythons():
    assert Path(shim._ffi.__file__).name == "_ffi.abi3.so"
    symbols = subprocess.run(
        ["nm", "-D", shim._ffi.__file__], check=True, capture_output=True, text=True
    ).stdout
    assert "relay_add" not in symbols  # nothing but the module's entry point is visible
