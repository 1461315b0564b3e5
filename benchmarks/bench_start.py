"""``start``: from the execution of the shim's program to its answer, and to the new shim's first one."""

from __future__ import annotations

import time
from dataclasses import replace

from harness import peers
from harness.driver import Shim
from harness.rounds import interleave


def starter(peer, workshop):
    """Starts a shim and ends it; returns how long its program took to print the address."""

    def start():
        shim = Shim(peer, workshop, workshop.bundle())
        shim.shutdown()
        return shim.start_s

    return start


def first_answer(peer, workshop):
    def start():
        bundle = workshop.bundle()
        begin = time.perf_counter()
        shim = Shim(peer, workshop, bundle)
        took = time.perf_counter() - begin
        shim.shutdown()
        return took

    return start


def both(make, workshop):
    return {name: make(peer, workshop) for name, peer in peers.shims().items()}


def test_start(compare, workshop):
    compare("start", lambda: interleave(both(starter, workshop), 40))


def test_start_to_first_answer(compare, workshop):
    compare("start to first answer", lambda: interleave(both(first_answer, workshop), 40))


def test_cold_start(compare, workshop):
    """Ours has no template process: an interpreter starts, and all modules are imported."""
    starts = both(first_answer, workshop)
    starts[peers.OURS] = first_answer(
        replace(peers.shims()[peers.OURS], env={"OCISHIM_TEMPLATE": "off"}), workshop
    )
    compare("cold start to first answer", lambda: interleave(starts, 10))
