"""The init of a further container in a sandbox: gVisor's pods.

What the host sees of it is the sandbox, a process that belongs to the pod's first container. So nothing here is a child of
ours: the runtime takes its streams when it starts it, signals it, and tells its end by ``wait``, one process of the
runtime for as long as it runs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING

from shim.errors import ShimError
from shim.process import Exit
from shim.process.holder import start_time
from shim.task.init_process import InitProcess
from shim.task.states import State

if TYPE_CHECKING:
    from shim.task.bundle import Bundle
    from shim.task.workshop import Workshop

__all__ = ["MemberProcess"]

_log = logging.getLogger(__name__)

_ASK_AGAIN_S = 1.0


class MemberProcess(InitProcess):
    """As ``InitProcess``; ``pid`` is the sandbox's."""

    _waiting: asyncio.Task[None] | None = None
    _sandbox_started = 0

    async def start(self) -> int:
        """The container's own program runs; returns the sandbox's pid.

        Raises:
            ShimError: the runtime could not start it, or its streams cannot be copied; then it is killed.
        """
        self.machine.check("start")
        if self.io.streams.terminal:
            await self._driver.start(self.id)
        else:
            await self._driver.start(self.id, stdio_fds=self.io.runtime_fds)
        self.machine.move(State.RUNNING)
        self._waiting = asyncio.create_task(self._wait_for_end())
        if not self.io.streams.terminal:
            try:
                await self.io.started()
            except ShimError:
                await self._driver.kill(self.id, signal.SIGKILL)
                raise
        return self.pid

    async def kill(self, number: int) -> None:
        """Signal the init; SIGKILL ends one that has not been started, too.

        Raises:
            NotFound: it has ended.
            ShimError: the runtime refused.
        """
        self.machine.check("kill")
        if self.state is State.CREATED and number == signal.SIGKILL:
            await self._driver.delete(self.id, force=True)
            self._end(_killed())
        else:
            await self._driver.kill(self.id, number)

    async def _run_runtime(self, shop: Workshop, bundle: Bundle) -> None:  # noqa: ARG002 - nothing to adopt
        await self._driver.create(
            self.id,
            str(bundle.path),
            stdio_fds=self.io.runtime_fds,
            pid_file=str(bundle.pid_file("init")),
            console_socket=self.io.console_socket,
        )
        self.pid = bundle.read_pid("init")
        self._sandbox_started = start_time(self.pid)
        if self.io.streams.terminal:
            await self.io.started()

    async def _wait_for_end(self) -> None:
        while True:
            try:
                self._end(await self._driver.wait(self.id))
            except ShimError as error:
                if await self._runs():
                    _log.warning("container %s: the runtime does not wait for it: %s", self.id, error)
                    await asyncio.sleep(_ASK_AGAIN_S)
                    continue
                # With its sandbox nobody is left who knows how it ended.
                self._end(_killed())
            return

    async def _runs(self) -> bool:
        # gVisor takes what was paused when its sandbox was killed for paused for ever.
        if start_time(self.pid) != self._sandbox_started:
            return False
        try:
            return (await self._driver.state(self.id))["status"] in {"running", "paused"}
        except ShimError:
            return False


def _killed() -> Exit:
    return Exit(128 + signal.SIGKILL, time.time_ns(), signal.SIGKILL)
