"""A fixture that starts servers and stops them; tests may be coroutines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty
from support.coroutines import pytest_pyfunc_call
from support.serving import Running

from shim.proto.task_v3_pb2 import StateRequest, StateResponse
from shim.transport.server import Method

__all__ = ["pytest_pyfunc_call"]


async def echo(request: StateRequest, _context: object) -> StateResponse:
    return StateResponse(id=request.id)


async def nothing(_request: Empty, _context: object) -> None:
    return None


@pytest.fixture
def serve(state_root: Path) -> Iterator[Callable[..., Running]]:
    """``serve(on_idle=None, Name=Method(…), …)`` -> a running server with Echo, Nothing and these."""
    running: list[Running] = []

    def start(on_idle: Callable[[], None] | None = None, **methods: Method) -> Running:
        own = {"Echo": Method(echo, StateRequest), "Nothing": Method(nothing, Empty)}
        running.append(Running(state_root / f"{len(running)}.sock", own | methods, on_idle))
        return running[-1]

    yield start
    for server in running:
        server.stop()
