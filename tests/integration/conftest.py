"""A shim process for the tests of each module, and the runtimes that they can rely on."""

import shutil

import pytest
from support import bed
from support.shims import lender, shim

__all__ = ["lender", "shim"]

# A runsc that panics at random is left out; one that is missing is told of by the test that needs it.
RUNTIMES = ["runc", "crun", *(["runsc"] if bed.has_steady_runsc() or not shutil.which("runsc") else [])]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """The name of an OCI runtime that is installed; the test runs once for each."""
    bed.need_runtime(request.param)
    return request.param
