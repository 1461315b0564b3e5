"""A further process in a running container."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, NotFound, ShimError
from shim.oci.process import with_process_terminal
from shim.oci.spec import to_json
from shim.process import Exit
from shim.task.process import TaskProcess
from shim.task.states import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shim.linux.pty import Winsize
    from shim.oci.schema import Json
    from shim.process import Child
    from shim.runtime import Driver
    from shim.stdio import ProcessIO
    from shim.task.bundle import Bundle
    from shim.task.workshop import Workshop

__all__ = ["ExecProcess"]

_START_FAILED = 255

_numbers = itertools.count()


class ExecProcess(TaskProcess):
    """Registered by Exec, run by Start; the container's init must be alive then."""

    def __init__(
        self,
        container_id: str,
        exec_id: str,
        spec: Json,
        io: ProcessIO,
        told: Callable[[ExecProcess, Exit], None],
    ) -> None:
        super().__init__(exec_id, f"process {exec_id} of container {container_id}", io)
        self._container_id = container_id
        self._told = told
        self._inside_pid: int | None = None
        self._leave_no_file: Callable[[], None] = lambda: None
        self._spec = {**spec, "terminal": io.streams.terminal}
        self._size: Winsize | None = None

    @property
    def spec(self) -> Json:
        """The Process that it is, as OCI has it."""
        return self._spec

    async def start(self, shop: Workshop, driver: Driver, bundle: Bundle) -> int:
        """Run it; returns its pid on the host.

        Raises:
            ShimError: it cannot run. It stays created then, and can only be deleted; Wait says 255, and never hangs.
        """
        self.machine.check("start")
        if self.exit is not None:
            raise FailedPrecondition(f"cannot start {self.machine.what}: it has failed to start")
        try:
            child = await self._run_runtime(shop, driver, bundle)
            if self.state is State.DELETED:
                raise NotFound(f"{self.machine.what} was deleted while it started")  # noqa: TRY301 - as any failure
        except BaseException:
            await self._failed()
            raise
        self.machine.move(State.RUNNING)
        child.on_exit(self._ended)
        return self.pid

    async def _run_runtime(self, shop: Workshop, driver: Driver, bundle: Bundle) -> Child:
        # The id itself may be as long as a file name can be, and means something to a runtime (runsc's "detach").
        name = f"exec-{next(_numbers)}"
        # At the end: a disk may take longer for it than all the rest does.
        self._leave_no_file = partial(bundle.remove_pid, name)
        await self.io.open()
        with shop.reaper.window() as window:
            async with self._terminal() as terminal:
                try:
                    self._inside_pid = await driver.exec(
                        self._container_id,
                        to_json(self._sized_spec()),
                        stdio_fds=self.io.runtime_fds,
                        pid_file=str(bundle.pid_file(name)),
                        console_socket=self.io.console_socket,
                    )
                except BaseException:
                    # A runtime that is killed late has made a process, which is our child now.
                    with suppress(NotFound):
                        self.child = window.adopt(bundle.read_pid(name))
                    raise
                self.child = child = window.adopt(bundle.read_pid(name))
                self.pid = child.pid
                await (terminal or self.io.started())
        return child

    def resize(self, size: Winsize) -> None:
        """As ``TaskProcess.resize``; the process finds the size that it had before the start."""
        super().resize(size)
        self._size = size

    async def kill(self, driver: Driver, number: int) -> None:
        """Signal the process, also where it lives in a sandbox.

        Raises:
            FailedPrecondition: it has not been started.
            NotFound: it has ended.
        """
        if self._inside_pid is None:
            self.send_signal(number)
        else:
            self.machine.check("kill")
            await driver.kill_process(self._container_id, self._inside_pid, number)

    async def delete(self) -> Exit | None:
        """Its streams are drained and closed, and it is forgotten; returns its exit, None when it never ran.

        Raises:
            FailedPrecondition: it is running.
        """
        self.machine.check("delete")
        await self.leave()
        return self.exit

    async def leave(self) -> None:
        """What ``delete`` does, in any state: a process that is stuck in the kernel keeps nothing of ours."""
        self._leave_no_file()
        if self.state is State.STOPPED:
            await self.io.drain()
        await self.io.close()
        if self.state in {State.CREATED, State.STOPPED}:
            self.forget()

    def _sized_spec(self) -> Json:
        if self._size is None:
            return self._spec
        return with_process_terminal(self._spec, terminal=self.io.streams.terminal, size=self._size)

    @asynccontextmanager
    async def _terminal(self) -> AsyncIterator[asyncio.Task[None] | None]:
        # The process runs as soon as the runtime has sent its terminal, and may look at the size at once. runc sets it from
        # the spec, crun 1.8 does not; so the terminal is taken and sized while the runtime still has things to do, which
        # under gVisor is always in time.
        if not self.io.streams.terminal:
            yield None
            return
        terminal = asyncio.create_task(self.io.started())
        try:
            yield terminal
        finally:
            terminal.cancel()
            await asyncio.gather(terminal, return_exceptions=True)

    async def _failed(self) -> None:
        self._leave_no_file()
        if self.child is not None:
            with suppress(ShimError, OSError):
                self.child.send_signal(9)
        await self.io.close()
        self._inside_pid = None
        # Nobody is told of the exit of what never started.
        self.exit_told = True
        if self.state is not State.DELETED:
            self.fail(Exit(_START_FAILED, time.time_ns()))
        elif self.child is not None:
            self.child.close()

    def _ended(self, ended: Exit) -> None:
        self.io.process_ended()
        self._told(self, ended)
