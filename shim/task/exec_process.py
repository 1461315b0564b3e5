"""A further process in a running container."""

from __future__ import annotations

import itertools
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.errors import NotFound, ShimError
from shim.oci.spec import to_json
from shim.process import Exit
from shim.task.process import TaskProcess
from shim.task.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.oci.schema import Json
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
        told: Callable[[ExecProcess], None],
    ) -> None:
        super().__init__(exec_id, f"process {exec_id} of container {container_id}", io)
        self._container_id = container_id
        self._told = told
        self._inside_pid: int | None = None
        self._spec = {**spec, "terminal": io.streams.terminal}

    async def start(self, shop: Workshop, driver: Driver, bundle: Bundle) -> int:
        """Run it; returns its pid on the host.

        Raises:
            ShimError: it cannot run; it counts as stopped with 255 then, so that no Wait hangs, and can be deleted.
        """
        self.machine.check("start")
        # The id itself may be as long as a file name can be, and means something to a runtime (runsc's "detach").
        name = f"exec-{next(_numbers)}"
        file = bundle.path / f".{name}.json"
        try:
            await self.io.open()
            file.write_bytes(to_json(self._spec))
            with shop.reaper.window() as window:
                self._inside_pid = await driver.exec(
                    self._container_id,
                    str(file),
                    stdio_fds=self.io.runtime_fds,
                    pid_file=str(bundle.pid_file(name)),
                    console_socket=self.io.console_socket,
                )
                self.child = window.adopt(bundle.read_pid(name))
            self.pid = self.child.pid
            await self.io.started()
            self._check_wanted()
        except BaseException:
            await self._failed()
            raise
        finally:
            with suppress(OSError):
                file.unlink()
            bundle.remove_pid(name)
        self.machine.move(State.RUNNING)
        self.child.on_exit(self._ended)
        return self.pid

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
        if self.state is State.STOPPED:
            await self.io.drain()
        await self.io.close()
        self.forget()
        return self.exit

    def _check_wanted(self) -> None:
        if self.state is State.DELETED:
            raise NotFound(f"{self.machine.what} was deleted while it started")

    async def _failed(self) -> None:
        if self.child is not None:
            with suppress(ShimError, OSError):
                self.child.send_signal(9)
        await self.io.close()
        # Nobody is told of the exit of what never started.
        self.exit_told = True
        if self.state is not State.DELETED:
            self.settle(Exit(_START_FAILED, time.time_ns()))
        elif self.child is not None:
            self.child.close()

    def _ended(self, ended: Exit) -> None:
        self.io.process_ended()
        self.settle(ended)
        self._told(self)
