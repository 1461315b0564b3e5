"""How a container ends: its exits are settled, written down and told.

Order at the end of the init: whatever it left behind is killed (unless the kernel did, with its pid namespace), the OOM
counter is read a last time, execs end first, the record is on disk, clients have the output, waiters are told, then everybody else.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.errors import ShimError
from shim.task import events
from shim.task.states import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from shim.process import Exit
    from shim.task.bundle import Bundle
    from shim.task.control_group import ControlGroup
    from shim.task.exec_process import ExecProcess
    from shim.task.init_process import InitProcess
    from shim.task.process import TaskProcess
    from shim.task.workshop import Workshop

__all__ = ["Ending"]

_log = logging.getLogger(__name__)

_EXECS_END_S = 10.0
# How long an end is kept back for a Start that is to be told of first, and for its record.
_TELL_S = 10.0


class Ending:
    """The end of one container. ``kill_rest`` kills what may outlive the init; None where nothing can."""

    def __init__(
        self,
        shop: Workshop,
        container_id: str,
        bundle: Bundle,
        group: ControlGroup,
        execs: Mapping[str, ExecProcess],
        *,
        kill_rest: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self.oom_killed = False
        """Whether the kernel killed in it for want of memory; known once the init has ended."""
        self._id = container_id
        self._bundle = bundle
        self._group = group
        self._execs = execs
        self._shop = shop
        self._kill_rest = kill_rest
        self._running: set[asyncio.Task[None]] = set()

    def init_ended(self, init: InitProcess, ended: Exit) -> None:
        """The init has ended: the rest follows, in the background."""
        self._in_background(self._settle(init, ended))

    def exec_ended(self, process: ExecProcess, ended: Exit) -> None:
        """An exec has ended, which is told after its output and its start, in the background."""
        self._in_background(self._settle_exec(process, ended))

    def tell(self, process: TaskProcess) -> None:
        """The exit of a process is published, if it has one and it was not before."""
        if process.exit is not None and not process.exit_told:
            process.exit_told = True
            self._shop.publish(events.TaskExited(self._id, process.id, process.pid, process.exit))

    def _in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _settle(self, init: InitProcess, ended: Exit) -> None:
        if self._kill_rest is not None:
            await self._kill_rest()
        self.oom_killed = self._group.oom_killed()
        await self._execs_end()
        saving = self._in_background(self._save(ended))
        if not (await asyncio.wait([saving], timeout=_TELL_S))[0]:
            _log.warning(
                "container %s: its exit is not on disk yet, which hangs, and is told all the same", self._id
            )
        await init.io.delivered()
        if init.state is not State.DELETED:
            init.settle(ended)
            await self._tell_after_start(init)

    async def _settle_exec(self, process: ExecProcess, ended: Exit) -> None:
        await process.io.delivered()
        process.settle(ended)
        await self._tell_after_start(process)

    async def _save(self, ended: Exit) -> None:
        try:
            await self._bundle.save_exit(ended, oom_killed=self.oom_killed)
        except (ShimError, OSError) as error:
            _log.warning("container %s: its exit could not be written down: %s", self._id, error)

    async def _execs_end(self) -> None:
        # An exec that hangs in the kernel must not keep the container's end a secret.
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXECS_END_S):
                await asyncio.gather(*map(_ends, list(self._execs.values())))
        for process in list(self._execs.values()):
            self.tell(process)

    async def _tell_after_start(self, process: TaskProcess) -> None:
        # Start holds the lock until it has told of the start. One that hangs, of an init that has ended, never will.
        async with process.after_start(_TELL_S):
            self.tell(process)


async def _ends(process: ExecProcess) -> None:
    # One that is just being started may run yet, for a moment.
    await process.start_over()
    if process.state is State.RUNNING:
        await process.wait()
