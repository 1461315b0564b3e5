"""A workshop in the test's own process, whose events are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.coroutines import pytest_pyfunc_call, reaping
from support.shims import CgroupParent, inventory, left_since

from shim.cgroup.events import OomWatcher
from shim.cgroup.hierarchy import detect
from shim.config import Config
from shim.stdio import Streams
from shim.task import Container, CreateRequest, Workshop, create
from shim.task.events import Event

__all__ = ["pytest_pyfunc_call"]


class Yard:
    """Makes containers; ``events`` has what was told, in order."""

    def __init__(self, shop: Workshop, config: Config, make_bundle: Callable[..., Path]) -> None:
        self.shop = shop
        self.config = config
        self.events: list[Event] = []
        self._make_bundle = make_bundle
        shop.publish = self.events.append

    async def create(self, *args: str, **changes: Any) -> Container:
        bundle = self._make_bundle(list(args), **changes)
        name = f"c{bundle.name.removeprefix('bundle')}"
        return await create(self.shop, CreateRequest(name, str(bundle), Streams(), self.config))

    def told(self) -> list[str]:
        """The events as words, with the exec's id where there is one."""
        words = []
        for event in self.events:
            name = getattr(event, "exec_id", "") or getattr(event, "id", "")
            words.append(f"{type(event).__name__} {name}".rstrip())
        return words


@pytest.fixture
def yard(state_root: Path, tmp_path: Path, bundle: Callable[..., Path]):
    """A workshop for one test, which takes its containers away itself: nothing may be left."""
    cgroups = CgroupParent()
    config = Config(state_root=str(state_root), cgroup_parent=cgroups.path)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Yard]:
        async with reaping() as reaper:
            watcher = OomWatcher(asyncio.get_running_loop())
            shop = Workshop("tests", config, reaper, detect(), watcher)
            try:
                yield Yard(shop, config, bundle)
            finally:
                shop.close()

    def now() -> set[object]:
        return inventory(state_root, tmp_path, cgroups)

    before = now()
    yield opened()
    left = left_since(before, now)
    cgroups.remove()
    assert not left, f"left behind:\n{left}"
