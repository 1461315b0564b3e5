"""The first process of a container. Its end is the container's end.

The runtime that forked it has exited; it is a child of ours through the subreaper, and its exit is the container's. For
gVisor the host sees the sandbox only, which exits as the init inside it does.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import AlreadyExists, FailedPrecondition, NotFound, ShimError
from shim.process import Exit
from shim.task.checkpoint import work_directory
from shim.task.process import TaskProcess
from shim.task.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.process import Child
    from shim.runtime import CheckpointOptions, Driver
    from shim.stdio import ProcessIO
    from shim.task.bundle import Bundle
    from shim.task.workshop import Workshop

__all__ = ["InitProcess"]

_log = logging.getLogger(__name__)

_NOT_RESTORED = 255
# How long a process may take to disappear after SIGKILL; longer when it sits in an uninterruptible system call.
_KILLED_S = 10.0


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
        self._discarded = False
        self.left_behind = False
        """Whether a create has failed, and the runtime then could not forget what it had made of it."""

    @property
    def restores(self) -> bool:
        """Whether Start restores a checkpoint: until then there is no process."""
        return self._restore_from is not None

    async def create(self, shop: Workshop, bundle: Bundle) -> None:
        """The runtime has made the container; its init waits for Start.

        Raises:
            ShimError: it could not; nothing of it is left.
        """
        if not self.restores:
            await self._make(shop, bundle)
            self._watch()

    async def _make(self, shop: Workshop, bundle: Bundle) -> None:
        try:
            await self.io.open()
            try:
                await self._run_runtime(shop, bundle)
            except AlreadyExists:
                # The id is a container of somebody else's: there is nothing of ours to undo.
                raise
            except BaseException:
                await self._uncreate()
                raise
        except BaseException:
            await self.io.close()
            raise

    async def _run_runtime(self, shop: Workshop, bundle: Bundle) -> None:
        pid_file, console = str(bundle.pid_file("init")), self.io.console_socket
        fds, place = self.io.runtime_fds, str(bundle.path)
        bundle.remove_pid("init")
        with shop.reaper.window() as window:
            try:
                if self._restore_from is None:
                    await self._driver.create(
                        self.id, place, stdio_fds=fds, pid_file=pid_file, console_socket=console
                    )
                else:
                    with work_directory(bundle, self._restore_from, "restore") as image:
                        await self._driver.restore(
                            self.id, place, image, stdio_fds=fds, pid_file=pid_file, console_socket=console
                        )
            except BaseException:
                # A runtime that is killed late has made an init, which is our child now.
                with suppress(NotFound):
                    self.child = window.adopt(bundle.read_pid("init"))
                raise
            self.child = window.adopt(bundle.read_pid("init"))
        self.pid = self.child.pid
        await self.io.started()

    async def discard(self) -> None:
        """It is as if it had not been created."""
        self._discarded = True
        await self._uncreate()
        await self.io.close()

    def _give_up_start(self) -> None:
        # Before its end it may run in the next moment, and what runs is not to be deleted.
        if self._starter is not None and self.state is not State.STOPPED:
            raise FailedPrecondition(f"cannot delete {self.machine.what}: it is being started")
        super()._give_up_start()

    def _watch(self) -> None:
        if self.child is not None:
            self.child.on_exit(self._end)

    async def restore(self, shop: Workshop, bundle: Bundle) -> int:
        """The container runs as it was when its checkpoint was written; returns its pid.

        Raises:
            ShimError: the runtime could not restore it; it counts as stopped with 255 then, so that no Wait hangs.
        """
        self.machine.check("start")
        try:
            await self._make(shop, bundle)
        except BaseException:
            self._end(Exit(_NOT_RESTORED, time.time_ns()))
            raise
        self._restore_from = None
        self.machine.move(State.RUNNING)
        self._watch()
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
            self._end_after_failed_start()
            raise
        # It may have run and ended while the runtime was still returning.
        if self.state is State.CREATED:
            self.machine.move(State.RUNNING)
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
        else:
            await self._driver.kill(self.id, number)

    async def delete(self) -> None:
        """The runtime has forgotten the container, all output is delivered, every stream is closed.

        Raises:
            FailedPrecondition: it is running.
            ShimError: the runtime could not.
        """
        self.machine.check("delete")
        if not self.restores and self.state is State.CREATED:
            await self._delete_unstarted()
        elif not self.restores:
            # It has ended. What gVisor takes for paused instead was so when its sandbox was killed.
            await self._delete_in_runtime(force=self._driver.waits_by_command)
        if self.exit is not None:
            await self.io.drain()
        await self.io.close()

    async def _delete_unstarted(self) -> None:
        # Whoever waits is to hear that it never ran, not of the signal that ends it now.
        self._discarded = True
        child = self.child
        try:
            await self._delete_in_runtime(force=True)
        except BaseException:
            self._discarded = False
            if child is not None and child.exit is not None:
                self._end(child.exit)
            raise
        if child is not None:
            # crun does not wait for it to be gone.
            await _end_of(child)

    async def _delete_in_runtime(self, *, force: bool) -> None:
        try:
            await self._driver.delete(self.id, force=force)
        except NotFound as error:
            # That the container is unknown is what was wanted. That the runtime is, is not, and clients would take
            # NotFound for success.
            if not _is_there(self._driver.binary):
                raise FailedPrecondition(str(error)) from error

    def _end(self, ended: Exit) -> None:
        if self.exit is None and not self._discarded:
            self.io.process_ended()
            self._ended(ended)

    def _end_after_failed_start(self) -> None:
        # runc kills the init that it cannot start; gVisor leaves a sandbox that can never run.
        if self._driver.waits_by_command and self.child is not None:
            with suppress(ProcessLookupError):
                self.child.send_signal(signal.SIGKILL)

    async def _uncreate(self) -> None:
        try:
            with suppress(NotFound):
                await self._driver.delete(self.id, force=True)
        except ShimError as error:
            self.left_behind = True
            _log.warning(
                "%s: what a failed create left is for a delete to clear away: %s", self.machine.what, error
            )
        if self.child is not None:
            await _end_of(self.child)
            self.child.close()
            self.child = None


def _is_there(program: str) -> bool:
    return Path(program).exists()


async def _end_of(child: Child) -> None:
    with suppress(ProcessLookupError):
        child.send_signal(signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_KILLED_S):
            await child.wait()
