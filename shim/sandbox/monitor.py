"""What goes wrong in a sandbox, as it happens: one task waits for each thing that can end.

Source: Kata's monitor, with events in the place of its timer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shim.errors import ShimError, Unavailable
from shim.sandbox.status import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from shim.sandbox.shim_client import ShimClient

__all__ = ["Monitor"]


class Monitor:
    """Watches until ``close``; failures that nobody has taken yet are kept."""

    def __init__(self, sandbox_id: str, shim: ShimClient) -> None:
        self._id = sandbox_id
        self._shim = shim
        self._queue: asyncio.Queue[Failure | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._shim_lost = False
        self._begin(self._sandbox())

    def watch(self, container_id: str) -> None:
        """The end of the container is told, too."""
        self._begin(self._container(container_id))

    def close(self) -> None:
        """Nothing is watched any more, and ``failures`` ends after what it has."""
        for task in self._tasks:
            task.cancel()
        self._queue.put_nowait(None)

    async def failures(self) -> AsyncIterator[Failure]:
        """Each, once it has happened."""
        try:
            while (failure := await self._queue.get()) is not None:
                yield failure
        finally:
            self.close()

    def _begin(self, watching: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(watching)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sandbox(self) -> None:
        try:
            await self._shim.wait_sandbox()
        except Unavailable:
            self._lost()
        except ShimError as error:
            self._tell(Failure("sandbox", f"sandbox {self._id} cannot be watched: {error}"))
        else:
            self._tell(Failure("sandbox", f"the process that holds sandbox {self._id} has ended"))

    async def _container(self, container_id: str) -> None:
        try:
            status = await self._shim.wait(container_id)
            killed = (await self._shim.inspect(container_id))["oom_killed"]
        except Unavailable:
            self._lost()
        except ShimError:
            return  # deleted, by whoever does not want it any more
        else:
            kind, why = (
                ("oom", "was killed for want of memory") if killed else ("exit", f"ended with {status}")
            )
            self._tell(Failure(kind, f"the init of container {container_id} {why}", container_id, status))

    def _lost(self) -> None:
        # All that wait see it at the same moment.
        if not self._shim_lost:
            self._shim_lost = True
            self._tell(Failure("shim", f"the shim of sandbox {self._id} is gone"))

    def _tell(self, failure: Failure) -> None:
        self._queue.put_nowait(failure)
