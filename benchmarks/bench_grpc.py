"""Calls of the first API to the daemon on one core, through its gate: what a State of some containers takes, and an event.

An event is one that the daemon makes of a container's own: it has come from the shim, is stored, and is told to the client.
"""

from __future__ import annotations

import pytest
from harness import peers
from harness.daemons import daemon
from harness.rounds import timed

from shim.client import BlockingClient

CALLS = 100
CONTAINERS = 3


@pytest.fixture(scope="module")
def client(workshop):
    """Of a daemon that has some containers."""
    with daemon() as root, BlockingClient(f"unix://{root}/grpc.sock") as client:
        folder = str(workshop.bundle(["sleep", "1000"]).folder)
        for number in range(CONTAINERS):
            client.create_container(f"c{number}", folder)
        yield client
        for number in range(CONTAINERS):
            client.update_container(f"c{number}", signal=9)
        stream = client.events(after=0)
        left = CONTAINERS
        while left:
            left -= next(stream).event.type == "delete"
        stream.close()


def test_state(record, client, full):
    def calls() -> None:
        for _ in range(CALLS):
            assert len(client.state().containers) == CONTAINERS

    calls()
    record(f"{CALLS} States over gRPC", {peers.OURS: [timed(calls) for _ in range(20 if full else 5)]})


def test_events(record, client, full):
    stream = client.events(after=0)
    for _ in range(2 * CONTAINERS):
        next(stream)

    def pauses() -> None:
        for _ in range(CALLS // 2):
            client.update_container("c0", status="paused")
            client.update_container("c0", status="running")
            assert [next(stream).event.type for _ in range(2)] == ["pause", "resume"]

    pauses()
    record(
        f"{CALLS} pauses over gRPC, and their events",
        {peers.OURS: [timed(pauses) for _ in range(20 if full else 5)]},
    )
    stream.close()
