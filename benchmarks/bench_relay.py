"""Copying a container's output: the native relay beside the best that Python alone can do.

`make bench`. In extra_info, `cpu_s_per_gib` is what the copying process spends; writer and reader are processes of
their own and the same for both.
"""

from __future__ import annotations

import fcntl
import os
import select
import selectors
import subprocess
import termios
import threading
import time
from contextlib import contextmanager

import pytest

from shim._native import Relay

MIB = 1 << 20
PIPE_SIZE = 1 << 20


@contextmanager
def native(source, sink):
    with Relay() as relay:
        relay.add(source, sink)
        yield
        while not any(event.kind == "end" for event in relay.poll()):
            select.select([relay], [], [])


@contextmanager
def python(source, sink):
    """A thread with selectors and os.splice, and large pipes: no byte enters the process here either."""
    thread = threading.Thread(target=splice_all, args=(source, sink))
    thread.start()
    yield
    thread.join()


def splice_all(source, sink):
    for fd in (source, sink):
        os.set_blocking(fd, False)
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        blocked = source
        while True:
            try:
                if os.splice(source, sink, MIB) == 0:
                    break
            except BlockingIOError:
                selector.unregister(blocked)
                blocked = sink if any(fcntl.ioctl(source, termios.FIONREAD, bytes(4))) else source
                selector.register(blocked, selectors.EVENT_WRITE if blocked == sink else selectors.EVENT_READ)
                selector.select()
    os.close(source)
    os.close(sink)


COPIERS = {"native": native, "python": python}


@pytest.fixture
def make_ends(tmp_path):
    """Makes (source, writer, reader, sink): a pipe and a FIFO, as between a container and a client."""

    def make():
        path = tmp_path / "stdout"
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        source, writer = os.pipe()
        sink = os.open(path, os.O_RDWR)
        return source, writer, os.open(path, os.O_RDONLY), sink

    return make


def copy(ends, copier, total, chunk, meanwhile=None):
    """From dd to cat through copier, in writes of `chunk` bytes."""
    source, writer, reader, sink = ends
    feed = ["dd", "if=/dev/zero", f"bs={chunk}", f"count={total // chunk}", "status=none"]
    with COPIERS[copier](source, sink):
        producer = subprocess.Popen(feed, stdout=writer)
        consumer = subprocess.Popen(["cat"], stdin=reader, stdout=subprocess.DEVNULL)
        os.close(writer)
        os.close(reader)
        while meanwhile and consumer.poll() is None:
            meanwhile()
        producer.wait()
        consumer.wait()


@pytest.mark.parametrize("copier", COPIERS)
@pytest.mark.parametrize(
    ("total", "chunk"),
    [
        pytest.param(
            1024 * MIB, 64 << 10, marks=pytest.mark.benchmark(group="copy 1 GiB in writes of 64 KiB")
        ),
        pytest.param(1024 * MIB, 4 << 10, marks=pytest.mark.benchmark(group="copy 1 GiB in writes of 4 KiB")),
        pytest.param(32 * MIB, 128, marks=pytest.mark.benchmark(group="copy 32 MiB in writes of 128 bytes")),
    ],
)
def test_copy(benchmark, make_ends, copier, total, chunk):
    before = time.process_time()
    benchmark.pedantic(lambda: copy(make_ends(), copier, total, chunk), rounds=3)
    cpu = (time.process_time() - before) / 3
    benchmark.extra_info["cpu_s_per_gib"] = round(cpu * 1024 * MIB / total, 3)


@pytest.mark.benchmark(group="copy 64 MiB while the interpreter is busy")
@pytest.mark.parametrize("copier", COPIERS)
def test_copy_beside_a_busy_interpreter(benchmark, make_ends, copier):
    """The GIL's part: the shim answers calls while a container writes."""

    def work():
        sum(range(10_000))

    benchmark.pedantic(lambda: copy(make_ends(), copier, 64 * MIB, 64 << 10, work), rounds=3)


@pytest.mark.benchmark(group="one line from write to read")
@pytest.mark.parametrize("copier", COPIERS)
def test_latency_of_a_line(benchmark, make_ends, copier):
    source, writer, reader, sink = make_ends()

    def line():
        os.write(writer, b"a line of output\n")
        os.read(reader, 100)

    with COPIERS[copier](source, sink):
        benchmark.pedantic(line, rounds=2000, warmup_rounds=100)
        os.close(writer)
    os.close(reader)
