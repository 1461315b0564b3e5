"""What a container writes, from the runtime's pipe or terminal to whoever reads it.

The reader is the driver, the same for all; it reads into memory as a client does. conmon has no FIFO to write to, only
its log: for it, and beside it, output goes into a file on the same tmpfs.
"""

from __future__ import annotations

import time

import pytest
from harness import peers
from harness.bare import Conmon
from harness.driver import Shim
from harness.process import cpu_s
from harness.rounds import interleave

MIB = 1 << 20
GIB = 1 << 30
ROUNDS = 3


def writing(size):
    return ["dd", "if=/dev/zero", "bs=64k", f"count={size >> 16}"]


class Taken:
    """What a copy took: the time of each, per GiB, for `interleave`; and the CPU time of each."""

    def __init__(self):
        self.cpu = {}

    def actions(self, copies):
        self.cpu = {name: [] for name in copies}
        return {name: self._action(name, copy) for name, copy in copies.items()}

    def _action(self, name, copy):
        def run():
            took, cpu = copy()
            self.cpu[name].append(cpu)
            return took

        return run


def measured(size, pid, copy):
    """Seconds and CPU seconds of the process, per GiB."""
    begin, cpu = time.perf_counter(), cpu_s(pid)
    copy()
    share = GIB / size
    return (time.perf_counter() - begin) * share, (cpu_s(pid) - cpu) * share


def to_fifo(peer, workshop, size, *, terminal=False):
    """Copies `size` bytes out of a container."""

    def copy():
        args = ["sh", "-c", f"stty raw; {' '.join(writing(size))} 2>/dev/null"] if terminal else writing(size)
        shim = Shim(peer, workshop, workshop.bundle(args, terminal=terminal))
        streams = workshop.streams(terminal=terminal)
        container = shim.create(**streams.fields)

        def start_and_read():
            container.begin()
            streams.read(size)

        taken = measured(size, shim.pid, start_and_read)
        streams.close()
        container.finish()
        shim.shutdown()
        return taken

    return copy


def to_file(peer, workshop, size):
    def copy():
        shim = Shim(peer, workshop, workshop.bundle(writing(size)))
        path = workshop.folder / "output"
        container = shim.create(stdout=f"file://{path}", stderr=f"file://{path}")

        def start_and_wait():
            container.begin()
            container.finish()

        taken = measured(size, shim.pid, start_and_wait)
        shim.shutdown()
        written(path, size)
        return taken

    return copy


def to_log(workshop, size):
    """conmon's; it ends when all is written."""

    def copy():
        container = Conmon(workshop, workshop.bundle(writing(size)))
        begin = time.perf_counter()
        container.start()
        container.wait()
        took = time.perf_counter() - begin
        container.delete()
        written(container.log, size)
        return took * GIB / size, 0.0

    return copy


def written(path, size):
    if path.stat().st_size < size:
        raise RuntimeError(f"{path.stat().st_size} of {size} bytes were written")
    path.unlink()


def both(make, *args, **how):
    return {name: make(peer, *args, **how) for name, peer in peers.shims().items()}


def test_fifo(compare, record, workshop):
    taken = Taken()

    def collect():
        samples = interleave(taken.actions(both(to_fifo, workshop, GIB)), ROUNDS, warmup=0)
        record("CPU of output by FIFO", taken.cpu)
        return samples

    compare("output by FIFO", collect)


def test_terminal(compare, record, workshop):
    taken = Taken()

    def collect():
        copies = both(to_fifo, workshop, 64 * MIB, terminal=True)
        samples = interleave(taken.actions(copies), ROUNDS, warmup=0)
        record("CPU of output by terminal", taken.cpu)
        return samples

    compare("output by terminal", collect)


@pytest.mark.beside(*peers.with_conmon())
def test_file(compare, workshop):
    def collect():
        copies = both(to_file, workshop, 256 * MIB)
        copies |= {name: to_log(workshop, 256 * MIB) for name in peers.with_conmon()}
        return interleave(Taken().actions(copies), ROUNDS, warmup=0)

    compare("output into a file", collect)


def first_byte(peer, workshop):
    def run():
        bundle = workshop.bundle(["echo", "hello"])
        streams = workshop.streams()
        begin = time.perf_counter()
        shim = Shim(peer, workshop, bundle)
        container = shim.create(**streams.fields)
        container.begin()
        streams.read(1)
        took = time.perf_counter() - begin
        streams.close()
        container.finish()
        shim.shutdown()
        return took

    return run


def test_first_byte(compare, workshop):
    """From the execution of the shim's program, by create and start, to the first byte of the container's output."""
    compare("start to the first byte", lambda: interleave(both(first_byte, workshop), 20))
