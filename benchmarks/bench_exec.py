"""Further processes in a container that runs: how long /bin/true takes, and what a storm of them costs the shim."""

from __future__ import annotations

import time

import pytest
from harness import peers
from harness.driver import Shim
from harness.process import cpu_s
from harness.rounds import interleave

PER_S = 10
SLICE = 10
"""Processes before it is the next peer's turn."""


@pytest.fixture(scope="module")
def running(workshop):
    """For each peer a container that runs."""
    shims = {name: Shim(peer, workshop, workshop.bundle()) for name, peer in peers.shims().items()}
    yield {name: shim.run() for name, shim in shims.items()}
    for shim in shims.values():
        shim.close()


def test_exec(compare, running):
    """From the request to start it to the answer of Wait."""
    execs = {name: container.exec for name, container in running.items()}
    compare("exec", lambda: interleave(execs, 25, batch=4))


def test_storm(compare, record, running, full):
    """Ten a second: the time of each, and the CPU time of the shim itself, not of its children."""
    times = {name: [] for name in running}

    def storm(name):
        def run():
            container = running[name]
            begin, cpu = time.perf_counter(), cpu_s(container.shim.pid)
            for number in range(SLICE):
                time.sleep(max(0.0, begin + number / PER_S - time.perf_counter()))
                times[name].append(container.exec())
            return (cpu_s(container.shim.pid) - cpu) / SLICE

        return run

    def collect():
        seconds = 60 if full else 5
        cpu = interleave({name: storm(name) for name in running}, seconds * PER_S // SLICE, warmup=0)
        record("CPU of an exec", cpu)
        return times

    compare("exec, 10 per second", collect)
