"""What a ttrpc call costs without a socket: framing and the connection's state, both ends."""

from __future__ import annotations

import pytest

from shim.ttrpc import Connection, Role


@pytest.mark.parametrize("size", [64, 4096, 65536])
def test_round_trip(benchmark, size):
    client, server = Connection(Role.CLIENT), Connection(Role.SERVER)
    payload = bytes(size)

    def call():
        stream, data = client.open_stream(payload)
        server.receive_data(data)
        client.receive_data(server.send_response(stream, payload))

    benchmark(call)
