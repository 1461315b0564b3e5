"""Calls about a container that runs: State, Stats, Pids, one after the other on one connection."""

from __future__ import annotations

import pytest
from harness import peers
from harness.driver import Shim
from harness.rounds import interleave


@pytest.fixture(scope="module")
def running(workshop):
    """For each peer a shim with one container."""
    shims = {name: Shim(peer, workshop, workshop.bundle()) for name, peer in peers.shims().items()}
    for shim in shims.values():
        shim.run()
    yield shims
    for shim in shims.values():
        shim.close()


# The Go shims run the runtime for Pids.
@pytest.mark.parametrize(("method", "rounds"), [("State", 100), ("Stats", 50), ("Pids", 10)])
def test_call(compare, running, method, rounds):
    calls = {name: shim.caller(method, id=shim.bundle.id) for name, shim in running.items()}
    compare(method, lambda: interleave(calls, rounds, batch=20))
