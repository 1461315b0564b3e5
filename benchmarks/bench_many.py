"""Many containers at once, each with its own shim: from the first start to the last shim's end."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import peers
from harness.driver import Shim
from harness.rounds import interleave


def at_once(peer, workshop, count):
    def live(bundle):
        shim = Shim(peer, workshop, bundle)
        shim.create().live()
        shim.shutdown()

    def run():
        bundles = [workshop.bundle(["/bin/true"]) for _ in range(count)]
        begin = time.perf_counter()
        with ThreadPoolExecutor(count) as threads:
            for _ in threads.map(live, bundles):
                pass
        return time.perf_counter() - begin

    return run


@pytest.mark.parametrize(("count", "rounds"), [(50, 3), (200, 1)])
def test_many_at_once(compare, workshop, full, count, rounds):
    crowds = {name: at_once(peer, workshop, count) for name, peer in peers.shims().items()}
    compare(f"{count} at once", lambda: interleave(crowds, 3 if full else rounds, warmup=0))
