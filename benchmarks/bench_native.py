"""The C extension beside what the standard library has for the same work: the gain that it is there for."""

from __future__ import annotations

import os
import select
import subprocess
import threading

import pytest

from shim._native import Relay, spawn

MIB = 1 << 20
COPIED = 256 * MIB


@pytest.mark.benchmark(group="start /bin/true and wait for it")
def test_spawn_native(benchmark):
    def run():
        pid, pidfd = spawn([b"/bin/true"], [], [])
        os.waitpid(pid, 0)
        os.close(pidfd)

    benchmark(run)


@pytest.mark.benchmark(group="start /bin/true and wait for it")
def test_spawn_subprocess(benchmark):
    benchmark(subprocess.call, ["/bin/true"])


def _produce(fd: int) -> None:
    block = bytes(MIB)
    with open(fd, "wb", buffering=0) as pipe:
        pipe.writelines(block for _ in range(COPIED // MIB))


def _consume(fd: int) -> None:
    with open(fd, "rb", buffering=0) as pipe:
        while pipe.read(MIB):
            pass


def _between_pipes(copy) -> None:
    """``copy(source, sink)`` owns both descriptors and moves COPIED bytes from one pipe to another."""
    source, produced = os.pipe()
    consumed, sink = os.pipe()
    ends = [
        threading.Thread(target=_produce, args=[produced]),
        threading.Thread(target=_consume, args=[consumed]),
    ]
    for end in ends:
        end.start()
    copy(source, sink)
    for end in ends:
        end.join()


@pytest.mark.benchmark(group=f"copy {COPIED // MIB} MiB from pipe to pipe")
def test_relay_native(benchmark):
    def copy(source, sink):
        with Relay() as relay:
            relay.add(source, sink)
            while not any(event.kind == "end" for event in relay.poll()):
                select.select([relay], [], [])

    benchmark.pedantic(_between_pipes, args=[copy], rounds=5)


@pytest.mark.benchmark(group=f"copy {COPIED // MIB} MiB from pipe to pipe")
def test_relay_thread_of_python(benchmark):
    def copy(source, sink):
        while data := os.read(source, 65536):
            os.write(sink, data)
        os.close(source)
        os.close(sink)

    benchmark.pedantic(_between_pipes, args=[copy], rounds=5)
