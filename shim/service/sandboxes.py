"""The sandboxes of one shim process, by id: at most one, but where one shim serves a whole node.

A container belongs to the sandbox that its annotations name; without any, to the sandbox of its shim.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from shim.cgroup.accounting import group_at
from shim.errors import AlreadyExists, FailedPrecondition, NotFound, ShimError
from shim.task import State
from shim.task.sandbox import Sandbox
from shim.task.sandbox_request import SANDBOX_ANNOTATION

if TYPE_CHECKING:
    from shim.cgroup.stats import Stats
    from shim.config import Config
    from shim.service.containers import Containers
    from shim.task import Container, Workshop
    from shim.task.sandbox_request import SandboxRequest

__all__ = ["Sandboxes"]

_log = logging.getLogger(__name__)


class Sandboxes:
    """Knows the containers too, since a sandbox is stopped with all that runs in it."""

    def __init__(self, shop: Workshop, containers: Containers) -> None:
        self._shop = shop
        self._containers = containers
        self._by_id: dict[str, Sandbox] = {}
        shop.sandboxes = self._by_id

    @property
    def config(self) -> Config:
        """The shim's configuration, over which the options of a sandbox go."""
        return self._shop.config

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, sandbox_id: str) -> Sandbox:
        """The sandbox of that id.

        Raises:
            NotFound: there is none.
        """
        if (found := self._by_id.get(sandbox_id)) is None:
            raise NotFound(f"sandbox not created: {sandbox_id}")
        return found

    def create(self, request: SandboxRequest) -> None:
        """A new sandbox, which is not started.

        Raises:
            AlreadyExists: the id is taken.
        """
        if request.id in self._by_id:
            raise AlreadyExists(f"sandbox {request.id}")
        self._by_id[request.id] = Sandbox(request, self._shop)

    def members(self, sandbox_id: str) -> list[Container]:
        """The containers in it."""
        return [
            c
            for c in self._containers
            if c.spec.annotations.get(SANDBOX_ANNOTATION, sandbox_id) == sandbox_id
        ]

    def statistics(self, sandbox_id: str) -> tuple[Stats, bool]:
        """What all of the pod uses, and whether that is in the terms of cgroup v2.

        Raises:
            NotFound: there is no such sandbox, or its pod has no cgroup.
        """
        parent = self.get(sandbox_id).request.cgroup_parent
        if not parent.startswith("/"):
            raise NotFound(f"sandbox {sandbox_id} has no cgroup of its pod")
        hierarchy = self._shop.hierarchy
        with closing(group_at(parent, hierarchy).gauge()) as gauge:
            return gauge.read(), hierarchy.mode == "unified"

    def remember(self) -> None:
        """Write down for each which containers there are now."""
        for sandbox in self._by_id.values():
            if sandbox.ready:
                try:
                    sandbox.remember(self._containers.bundles())
                except ShimError as error:
                    _log.warning("sandbox %s: its record cannot be written: %s", sandbox.id, error)

    async def drop_lost(self) -> None:
        """Of sandboxes that do not run and whose bundles are gone nothing is left."""
        for sandbox in list(self._by_id.values()):
            if sandbox.lost:
                _log.warning(
                    "sandbox %s does not run and its bundle is gone: nobody will shut it down", sandbox.id
                )
                with suppress(ShimError):
                    await self.shut_down(sandbox.id)

    async def stop(self, sandbox_id: str) -> None:
        """Nothing runs in it, and its own process has ended; right in any state."""
        sandbox = self.get(sandbox_id)
        members = self.members(sandbox_id)
        if sandbox.own_kernel:
            # With that all end, also when the runtime hangs. What was never started has no end, and can be deleted.
            await sandbox.stop()
            started = (member for member in members if member.init.state is not State.CREATED)
            await asyncio.gather(*map(_ended, started))
        else:
            await asyncio.gather(*map(_end, members))
            await sandbox.stop()

    async def shut_down(self, sandbox_id: str) -> None:
        """It is gone with all its containers; the shim ends when it has nothing else.

        Raises:
            NotFound: there is none; a shim that has nothing ends all the same.
            ShimError: a container could not be deleted; it can be tried again.
        """
        try:
            sandbox = self.get(sandbox_id)
            await self.stop(sandbox_id)
            for container in self.members(sandbox_id):
                await container.delete()
                self._containers.forget(container)
            await sandbox.remove()
            self._by_id.pop(sandbox_id, None)
        finally:
            self._containers.ask_shutdown()


async def _end(container: Container) -> None:
    # What was never started may have no process to kill, and what has ended has none.
    with suppress(NotFound, FailedPrecondition):
        await container.kill(signal.SIGKILL, all_processes=True)
        await container.wait()


async def _ended(container: Container) -> None:
    with suppress(NotFound):
        await container.wait()
