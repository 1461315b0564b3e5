"""What becomes of containers and processes of the API when they have ended: nothing is left of them.

The first API has no call for that; whoever wants to know how something ended subscribes to Events. So a container is removed
only when ``told`` says that its end was; and one that ended while no daemon was there is removed by the next one.

What a container wrote into a FIFO that nobody has read yet is there for as long as its shim: a client that comes late is
given a moment to read it.

A shim that is gone took the knowledge of its container's end with it, unless that is on disk: then the container is removed,
else it may still run, and stays for whoever looks.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from shim.containers import removal
from shim.containers.connection import connected
from shim.containers.shim_process import ShimProcess
from shim.errors import FailedPrecondition, NotFound, ShimError, Unavailable
from shim.grpc_api.ownership import ownership
from shim.grpc_api.unread import until_read
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from shim.containers.containers import Container, Containers

__all__ = ["PROCESS_PREFIX", "Endings"]

PROCESS_PREFIX = "process-"
"""With which the ids of execs begin that are ours to forget."""

_LOOK_S = 0.1
_SHIM_ENDS_S = 10.0
_SETTLED_S = 20.0

_log = logging.getLogger(__name__)


class Endings:
    """``close`` at the end. ``told`` returns when the end of a container was told to whoever listens."""

    def __init__(self, containers: Containers, told: Callable[[str], Awaitable[None]]) -> None:
        self._containers = containers
        self._told = told
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def open(self) -> list[Container]:
        """Whatever is ours is watched, which is returned, and what a killed daemon had begun to make is cleared away.

        Raises:
            ShimError: what is there cannot be read.
        """
        found = []
        for container in await in_thread(self._containers.all):
            owned = await in_thread(ownership, container)
            if owned is None:
                continue
            if owned.abandoned:
                _log.warning("container %s was never finished; it is removed", container.id)
                self._begin((container.id, ""), self._discard(container))
            elif owned.made:
                self.watch(container)
                self._begin((container.id, "execs"), self._watch_execs(container))
                found.append(container)
        return found

    def watch(self, container: Container) -> None:
        """``container`` is removed when it has ended."""
        self._begin((container.id, ""), self._until_gone(container))

    def watch_exec(self, container: Container, exec_id: str) -> None:
        """The exec is forgotten when it has ended."""
        self._begin((container.id, exec_id), self._until_forgotten(container, exec_id))

    async def settle(self, container_id: str) -> None:
        """If there is a container of that id that is ours and has ended, it is gone; unless that takes very long."""
        task = self._tasks.get((container_id, ""))
        if task is None:
            return
        try:
            container = await in_thread(self._containers.get, container_id)
        except NotFound:
            return
        with suppress(ShimError), closing(await connected(container)) as client:
            if (await client.inspect(container_id))["status"] != "stopped":
                return
        await asyncio.wait([task], timeout=_SETTLED_S)

    async def gone(self, container_id: str) -> None:
        """What is ours and has ended, or is about to, is gone."""
        if (task := self._tasks.get((container_id, ""))) is not None:
            await asyncio.wait([task])

    async def close(self) -> None:
        """Nothing is watched any more; a removal that has begun is done."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: tuple[str, str], work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[key] = asyncio.create_task(work)
        task.add_done_callback(lambda done: self._forget(key, done))

    def _forget(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is done:
            del self._tasks[key]
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.error("container %s is not watched any more", key[0], exc_info=error)

    async def _until_gone(self, container: Container) -> None:
        record = await in_thread(container.record)
        try:
            await self._until_ended(container)
        except (NotFound, Unavailable):
            # Removed by somebody else, or its shim was killed.
            await self._without_shim(container)
        except ShimError as error:
            _log.warning("container %s cannot be watched: %s", container.id, error)
            return
        # Also where somebody else has removed it: it may be a child of ours, whom nobody else can reap.
        await in_thread(ShimProcess(record.shim_pid, record.shim_started).wait, _SHIM_ENDS_S)

    async def _until_ended(self, container: Container) -> None:
        with closing(await connected(container)) as client:
            await client.wait(container.id)
            await self._until_told(container)
            await until_read(await client.outputs(container.id))
        await self._remove(container)

    async def _without_shim(self, container: Container) -> None:
        if await in_thread(container.exit_record) is not None:
            await self._until_told(container)
            await self._remove(container)
        elif container.directory.exists():
            _log.warning("the shim of container %s is gone, and may have left it running", container.id)

    async def _until_told(self, container: Container) -> None:
        """Its end was told, or somebody else has removed it, which is told as well."""
        told = asyncio.ensure_future(self._told(container.id))
        try:
            while not told.done() and container.directory.exists():
                await asyncio.wait([told], timeout=_LOOK_S)
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)

    async def _remove(self, container: Container) -> None:
        try:
            await in_thread(lambda: removal.remove(container, force=False))
        except ShimError as error:
            if container.directory.exists():
                _log.warning("container %s has ended, and cannot be removed: %s", container.id, error)

    async def _discard(self, container: Container) -> None:
        try:
            await in_thread(lambda: removal.remove(container, force=True))
        except ShimError as error:
            _log.warning("container %s cannot be removed: %s", container.id, error)

    async def _watch_execs(self, container: Container) -> None:
        with suppress(ShimError), closing(await connected(container)) as client:
            for about in (await client.inspect(container.id))["execs"]:
                if not about["id"].startswith(PROCESS_PREFIX):
                    continue
                if about["status"] == "created":
                    # It was never started, or that is going on, and ends with this.
                    with suppress(ShimError):
                        await client.delete(container.id, about["id"])
                        continue
                self.watch_exec(container, about["id"])

    async def _until_forgotten(self, container: Container, exec_id: str) -> None:
        # Of a container that is gone, its execs are, too.
        with (
            suppress(NotFound, Unavailable, FailedPrecondition),
            closing(await connected(container)) as client,
        ):
            await client.wait(container.id, exec_id)
            await client.delete(container.id, exec_id)
