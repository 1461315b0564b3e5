"""Sandboxes in a state directory and a cgroup of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import bed
from support.coroutines import pytest_pyfunc_call
from support.shims import CgroupParent

from shim.sandbox import ContainerConfig, SandboxConfig, list_sandboxes, sync

__all__ = ["pytest_pyfunc_call"]

MakeConfig = Callable[..., SandboxConfig]


@pytest.fixture
def config(state_root: Path) -> Iterator[MakeConfig]:
    """Makes configurations whose sandboxes are gone when the test ends, whatever it did."""
    parent = CgroupParent()

    def make(sandbox_id: str = "s1", **members) -> SandboxConfig:
        options = {"idle_timeout": 5.0, **members.pop("options", {})}
        return SandboxConfig(sandbox_id, **{"cgroup_parent": str(parent.path), "options": options, **members})

    yield make
    for status in sync.list_sandboxes(state_root=str(state_root)):
        with sync.fetch_sandbox(status.id, state_root=str(state_root)) as sandbox:
            if not status.note:
                sandbox.stop()
            sandbox.delete()
    parent.remove()


@pytest.fixture
def container() -> Callable[..., ContainerConfig]:
    """Makes containers of the sample root file system that run a line of shell."""

    def make(container_id: str, script: str = "sleep inf", **members) -> ContainerConfig:
        return ContainerConfig(
            container_id, rootfs=str(bed.rootfs()), args=("sh", "-c", script), read_only=True, **members
        )

    return make


async def states(state_root: Path) -> dict[str, str]:
    return {status.id: str(status.state) for status in await list_sandboxes(state_root=str(state_root))}
