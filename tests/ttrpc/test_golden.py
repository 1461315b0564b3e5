"""Frames recorded from the Go implementation, cut at every byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim.ttrpc import Connection, Kind, RequestReceived, ResponseReceived, Role

GOLDEN = Path(__file__).parents[1] / "golden"


def recorded(name: str) -> bytes:
    lines = (GOLDEN / name).read_text().splitlines()
    return b"".join(bytes.fromhex(line) for line in lines if not line.startswith("#"))


def server() -> Connection:
    return Connection(Role.SERVER)


def client() -> Connection:
    """One that has called for every answer that was recorded."""
    connection = Connection(Role.CLIENT)
    while connection.open_stream(b"")[0] < 103:
        pass
    return connection


@pytest.mark.parametrize(
    ("name", "receiver", "kind", "ids"),
    [
        ("containerd-1.6-shim-requests.hex", server, RequestReceived, [1, 3, 5, 7]),
        # The answer to the even id is for a stream that a client cannot have.
        ("containerd-1.6-shim-responses.hex", client, ResponseReceived, [1, 3, 5, 7, 103]),
    ],
)
def test_every_cut_gives_the_same_events(name, receiver, kind, ids):
    wire = recorded(name)
    whole = receiver().receive_data(wire)
    assert [event.stream_id for event in whole] == ids
    assert all(isinstance(event, kind) for event in whole)
    for cut in range(1, len(wire)):
        connection = receiver()
        assert connection.receive_data(wire[:cut]) + connection.receive_data(wire[cut:]) == whole


def test_we_write_the_same_bytes():
    wire = recorded("containerd-1.6-shim-requests.hex")
    ours = Connection(Role.CLIENT)
    events = server().receive_data(wire)
    assert [event.kind for event in events] == [Kind.UNARY] * 4
    assert b"".join(ours.open_stream(event.payload)[1] for event in events) == wire
