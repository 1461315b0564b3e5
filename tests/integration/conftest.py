"""A shim process for the tests of each module, and the runtimes that they can rely on."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import bed
from support.shims import CgroupParent, MakeBundle, Shim, ShimProcess, inventory, left_since, lender, shim

__all__ = ["lender", "shim"]

# A runsc that panics at random is left out; one that is missing is told of by the test that needs it.
RUNTIMES = ["runc", "crun", *(["runsc"] if bed.has_steady_runsc() or not shutil.which("runsc") else [])]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """The name of an OCI runtime that is installed; the test runs once for each."""
    bed.need_runtime(request.param)
    return request.param


@pytest.fixture
def cgroups() -> Iterator[CgroupParent]:
    parent = CgroupParent()
    yield parent
    parent.remove()


@pytest.fixture
def start(state_root: Path, tmp_path: Path, cgroups: CgroupParent) -> Iterator[Callable[..., ShimProcess]]:
    """Starts shims that end with the test, at the latest; nothing is left of them then."""
    started: list[ShimProcess] = []

    def now() -> set[object]:
        return inventory(state_root, tmp_path, cgroups)

    before = now()

    def go(**settings: object) -> ShimProcess:
        name = f"shim{len(started)}"
        started.append(ShimProcess(state_root, name=name, cgroup_parent=cgroups.path, **settings))
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.log.unlink()
        (process.bundle / "config.toml").unlink()
    assert not left_since(before, now)


@pytest.fixture
def lend(bundle: MakeBundle, tmp_path: Path) -> Iterator[Callable[[ShimProcess], Shim]]:
    """A connection with which to make containers in a shim."""
    with contextlib.ExitStack() as stack:
        yield lambda process: stack.enter_context(Shim(process, bundle, tmp_path))
