"""What the tests of the gRPC API share; those of its parts are coroutines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from support import bed
from support.api_in_loop import ApiInLoop, serving
from support.coroutines import pytest_pyfunc_call
from support.first_api import Server, Servers, api_of, lend, rpc
from support.gate import Gate

__all__ = ["api_of", "pytest_pyfunc_call", "rpc"]


@pytest.fixture
def api(state_root: Path, tmp_path: Path) -> AbstractAsyncContextManager[ApiInLoop]:
    """The API, served in the test's own loop, and a client of it."""
    return serving(state_root, tmp_path)


@pytest.fixture
def server(api_of: Servers) -> Iterator[Server]:
    """The API in a process of its own, with runc."""
    bed.need_runtime("runc")
    yield from lend(api_of.get())


@pytest.fixture(params=["runc", "runsc"])
def any_server(request: pytest.FixtureRequest, api_of: Servers) -> Iterator[Server]:
    """The same, once for each runtime."""
    bed.need_runtime(request.param)
    yield from lend(api_of.get(runtime=request.param))


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """A runtime that can be held up."""
    return Gate(tmp_path_factory.mktemp("gate"))


@pytest.fixture
def gated(api_of: Servers, gate: Gate) -> Iterator[Server]:
    """The API with the runtime of ``gate``, which is open again afterwards."""
    bed.need_runtime("runc")
    for server in lend(api_of.get(runtime=str(gate.runtime))):
        yield server
        gate.open()
