"""The life of a container that runs /bin/true: create, start, wait, delete; and what of it is the shim's own.

The runtime alone is called as a shim calls it: create, start, the end of the process by its pidfd, delete.
"""

from __future__ import annotations

import time

import pytest
from harness import peers
from harness.bare import Bare, Conmon
from harness.driver import Shim
from harness.rounds import interleave

TRUE = ["/bin/true"]


def life(peer, workshop):
    def live():
        shim = Shim(peer, workshop, workshop.bundle(TRUE))
        begin = time.perf_counter()
        shim.create().live()
        took = time.perf_counter() - begin
        shim.shutdown()
        return took

    return live


def whole_life(peer, workshop):
    def live():
        bundle = workshop.bundle(TRUE)
        begin = time.perf_counter()
        shim = Shim(peer, workshop, bundle)
        shim.create().live()
        shim.shutdown()
        return time.perf_counter() - begin

    return live


def alone(kind, workshop):
    """The life of a container of bare.py's."""

    def live():
        bundle = workshop.bundle(TRUE)
        begin = time.perf_counter()
        container = kind(workshop, bundle)
        container.start()
        container.delete()
        return time.perf_counter() - begin

    return live


@pytest.mark.beside(peers.BARE)
def test_create_to_delete(compare, record, workshop):
    def collect():
        lives = {name: life(peer, workshop) for name, peer in peers.shims().items()}
        samples = interleave(lives | {peers.BARE: alone(Bare, workshop)}, 40)
        bare = samples[peers.BARE]
        own = {
            name: [mine - alone for mine, alone in zip(samples[name], bare, strict=True)] for name in lives
        }
        record("own share of create to delete", own)
        return samples

    compare("create to delete", collect)


@pytest.mark.beside(*peers.with_conmon())
def test_start_to_shutdown(compare, workshop):
    """The shim process's own start and end included."""
    lives = {name: whole_life(peer, workshop) for name, peer in peers.shims().items()}
    lives |= {name: alone(Conmon, workshop) for name in peers.with_conmon()}
    compare("start to shutdown", lambda: interleave(lives, 25))
