"""Memory that is a shim's own, as the kernel counts it: Private_Clean and Private_Dirty of smaps_rollup.

What they share, a program's text or a template's pages, is paid once for all of them, and told apart.
"""

from __future__ import annotations

import os

import pytest
from harness import peers
from harness.bare import Conmon
from harness.driver import Container, Shim, invoke
from harness.process import private_bytes, shared_bytes

SHIMS = 20
CONTAINERS = 20


@pytest.fixture
def shims_of(workshop):
    """Makes shims, each with one container that runs; they are ended afterwards."""
    made = []

    def make(peer, count):
        shims = [Shim(peer, workshop, workshop.bundle()) for _ in range(count)]
        made.extend(shims)
        for shim in shims:
            shim.run()
        return shims

    yield make
    for shim in made:
        shim.close()


def test_memory_of_a_shim(record, shims_of, workshop):
    owners = {name: shims_of(peer, SHIMS) for name, peer in peers.shims().items()}
    conmons = [Conmon(workshop, workshop.bundle()) for _ in range(SHIMS) if peers.conmon()]
    for conmon in conmons:
        conmon.start()
    owners |= {peers.CONMON: conmons} if conmons else {}
    for name, count in ("memory", private_bytes), ("memory that shims share", shared_bytes):
        record(name, {peer: [float(count(one.pid)) for one in many] for peer, many in owners.items()}, "B")
    for conmon in conmons:
        conmon.kill()
        conmon.delete()


def test_memory_of_a_further_container(record, workshop):
    """In a shim that a pod's containers share."""
    record(
        "memory of a further container",
        {name: [further(peer, workshop)] for name, peer in peers.shims().items()},
        "B",
    )


def further(peer, workshop):
    pod = f"pod-{os.urandom(4).hex()}"
    shim = Shim(peer, workshop, workshop.bundle(pod=pod))
    shim.run()
    first = private_bytes(shim.pid)
    containers = []
    for _ in range(CONTAINERS):
        bundle = workshop.bundle(pod=pod)
        invoke(peer, workshop, bundle, "start")
        os.close(bundle.log_fd)
        containers.append(shim.run(bundle))
    taken = (private_bytes(shim.pid) - first) / CONTAINERS
    for container in containers:
        container.end()
    shim.close()
    return taken


def test_growth_by_execs(record, shims_of, full):
    """What 1,000 processes leave behind in a shim; by default as much of it as 100 do."""
    count = 1000 if full else 100
    samples = {}
    for name, peer in peers.shims().items():
        (shim,) = shims_of(peer, 1)
        container = Container(shim, shim.bundle)
        container.exec()
        before = private_bytes(shim.pid)
        for _ in range(count):
            container.exec()
        samples[name] = [float(private_bytes(shim.pid) - before)]
    record("memory that execs leave", samples, "B")
