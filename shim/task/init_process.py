"""The first process of a container. Its end is the container's end.

For runc and crun the init is a process of this host, a child of ours through the subreaper, and its exit is its own. For
gVisor the host only sees the sandbox; the exit of the container inside comes from the runtime's ``wait`` command.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from shim.errors import NotFound, ShimError
from shim.task.process import TaskProcess
from shim.task.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.process import Exit
    from shim.runtime import CheckpointOptions, Driver
    from shim.stdio import ProcessIO
    from shim.task.bundle import Bundle
    from shim.task.workshop import Workshop

__all__ = ["InitProcess"]

_log = logging.getLogger(__name__)


class InitProcess(TaskProcess):
    """Created and started by the OCI runtime; ``ended`` is called once, in the loop's thread, with its exit."""

    def __init__(
        self,
        container_id: str,
        io: ProcessIO,
        driver: Driver,
        ended: Callable[[Exit], None],
        restore_from: CheckpointOptions | None = None,
    ) -> None:
        super().__init__(container_id, f"container {container_id}", io)
        self._driver = driver
        self._ended = ended
        self._restore_from = restore_from
        self._watch: asyncio.Task[None] | None = None

    @property
    def restores(self) -> bool:
        """Whether Start restores a checkpoint: until then there is no process."""
        return self._restore_from is not None

    async def create(self, shop: Workshop, bundle: Bundle) -> None:
        """The runtime has made the container; its init waits for Start.

        Raises:
            ShimError: it could not; nothing of it is left.
        """
        if self.restores:
            return
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._uncreate)
            await self._make(shop, bundle)
            undo.pop_all()
        self._watch_child()

    async def _make(self, shop: Workshop, bundle: Bundle) -> None:
        await self.io.open()
        with shop.reaper.window() as window:
            pid_file, console = str(bundle.pid_file("init")), self.io.console_socket
            fds, place = self.io.runtime_fds, str(bundle.path)
            if self._restore_from is None:
                await self._driver.create(
                    self.id, place, stdio_fds=fds, pid_file=pid_file, console_socket=console
                )
            else:
                await self._driver.restore(
                    self.id,
                    place,
                    self._restore_from,
                    stdio_fds=fds,
                    pid_file=pid_file,
                    console_socket=console,
                )
            self.child = window.adopt(bundle.read_pid("init"))
        self.pid = self.child.pid
        await self.io.started()

    def _watch_child(self) -> None:
        if self.child is not None and not self._driver.waits_by_command:
            self.child.on_exit(self._end)

    async def restore(self, shop: Workshop, bundle: Bundle) -> int:
        """The container runs as it was when its checkpoint was written; returns its pid.

        Raises:
            ShimError: the runtime could not restore it; nothing of it is left, and Start can be tried again.
        """
        self.machine.check("start")
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._uncreate)
            await self._make(shop, bundle)
            undo.pop_all()
        self._restore_from = None
        self.machine.move(State.RUNNING)
        self._watch_child()
        self._watch_command()
        return self.pid

    async def start(self) -> int:
        """The container's own program runs; returns its pid.

        Raises:
            ShimError: the runtime could not start it.
        """
        self.machine.check("start")
        try:
            await self._driver.start(self.id)
        except ShimError:
            await self._end_after_failed_start()
            raise
        # It may have run and ended while the runtime was still returning.
        if self.state is State.CREATED:
            self.machine.move(State.RUNNING)
        self._watch_command()
        return self.pid

    async def kill(self, number: int) -> None:
        """Signal the init.

        Raises:
            NotFound: it has ended.
            ShimError: the runtime refused.
        """
        self.machine.check("kill")
        if not self._driver.waits_by_command:
            self.send_signal(number)
        elif self.state is State.CREATED and number == signal.SIGKILL:
            # gVisor takes no signals for a container that has not been started: its sandbox is what can be killed.
            self.send_signal(number)
            await self._end_with_child()
        else:
            await self._driver.kill(self.id, number)

    async def delete(self) -> None:
        """The runtime has forgotten the container, all output is delivered, every stream is closed.

        Raises:
            FailedPrecondition: it is running.
            ShimError: the runtime could not.
        """
        self.machine.check("delete")
        if not self.restores:
            with suppress(NotFound):
                await self._driver.delete(self.id, force=self.state is State.CREATED)
        if self.exit is not None:
            await self.io.drain()
        await self.io.close()
        if self._watch is not None:
            self._watch.cancel()

    def _watch_command(self) -> None:
        if self._driver.waits_by_command:
            self._watch = asyncio.create_task(self._wait_by_command())

    def _end(self, ended: Exit) -> None:
        if self.exit is None:
            self.io.process_ended()
            self._ended(ended)

    async def _wait_by_command(self) -> None:
        try:
            ended = await self._driver.wait(self.id)
        except (ShimError, OSError) as error:
            _log.warning("waiting for container %s failed, its sandbox is waited for: %s", self.id, error)
            await self._end_with_child()
        else:
            self._end(ended)

    async def _end_with_child(self) -> None:
        if self.child is not None:
            self._end(await self.child.wait())

    async def _end_after_failed_start(self) -> None:
        # runc kills the init that it cannot start; gVisor leaves a sandbox that can never run.
        if self._driver.waits_by_command and self.child is not None:
            with suppress(ProcessLookupError):
                self.child.send_signal(signal.SIGKILL)
            await self._end_with_child()

    async def _uncreate(self) -> None:
        with suppress(ShimError):
            await self._driver.delete(self.id, force=True)
        if self.child is not None:
            with suppress(ProcessLookupError):
                self.child.send_signal(signal.SIGKILL)
            self.child.close()
            self.child = None
        await self.io.close()
