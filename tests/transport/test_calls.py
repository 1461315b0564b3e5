"""What a handler returned as it goes over the wire: protobuf's own bytes, though not protobuf makes them."""

from __future__ import annotations

import pytest

from shim.proto.task_v3_pb2 import StateResponse
from shim.proto.ttrpc_pb2 import Response
from shim.transport.calls import success


# Lengths at which the number that tells them grows by a byte.
@pytest.mark.parametrize("size", [1, 100, 125, 126, 127, 128, 16_380, 16_381, 1 << 21, (4 << 20) - 100])
def test_an_answer_is_what_protobuf_makes_of_it(size):
    message = StateResponse(bundle="b" * size)
    assert success(message) == Response(payload=message.SerializeToString()).SerializeToString()


@pytest.mark.parametrize("message", [None, StateResponse()])
def test_an_empty_answer_has_no_bytes(message):
    assert success(message) == Response().SerializeToString() == b""
