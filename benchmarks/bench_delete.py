"""``delete``: what containerd executes to clear away after a shim that was killed, with its container still running."""

from __future__ import annotations

from harness import peers
from harness.driver import Shim, invoke
from harness.rounds import interleave, timed


def clearing(peer, workshop):
    def clear():
        bundle = workshop.bundle()
        shim = Shim(peer, workshop, bundle)
        shim.run()
        shim.kill()
        return timed(lambda: invoke(peer, workshop, bundle, "delete", "-bundle", str(bundle.folder)))

    return clear


def test_delete(compare, workshop):
    clears = {name: clearing(peer, workshop) for name, peer in peers.shims().items()}
    compare("delete after a killed shim", lambda: interleave(clears, 10))
