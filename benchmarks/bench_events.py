"""Events from the shim to containerd, as fast as it gets them out: those of processes that are added to a container."""

from __future__ import annotations

import itertools
import time

from harness import peers
from harness.driver import Shim
from harness.rounds import interleave

EVENTS = 1000
ROUNDS = 5


def sending(shim, workshop):
    """Adds processes, all requests at once; returns how long it took until the last event had come."""
    number = itertools.count()
    container = shim.run()

    def send():
        names = [f"e{next(number)}" for _ in range(EVENTS)]
        before = workshop.events()
        begin = time.perf_counter()
        for pending in [container.begin_exec(name) for name in names]:
            pending.result()
        took = workshop.event_time(before + EVENTS) - begin
        for name in names:
            shim.call("Delete", id=container.id, exec_id=name)
        return took

    return send


def test_events(compare, workshop):
    def collect():
        shims = {name: Shim(peer, workshop, workshop.bundle()) for name, peer in peers.shims().items()}
        try:
            return interleave({name: sending(shim, workshop) for name, shim in shims.items()}, ROUNDS)
        finally:
            for shim in shims.values():
                shim.close()

    compare("1,000 events", collect)
