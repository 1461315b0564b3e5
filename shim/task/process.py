"""What init and exec processes have in common: state, streams, exit, waiters.

The exit becomes visible in one step, ``_settle``: the record is on disk, then the state is stopped, then waiters wake.
It never waits for output: a background child may hold a pipe open for ever.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, NotFound
from shim.task.states import Machine, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shim.linux.pty import Winsize
    from shim.process import Child, Exit
    from shim.stdio import ProcessIO, Streams

__all__ = ["Snapshot", "TaskProcess"]

# A start of a process takes less than that; the next moment would show it running.
_STARTS_S = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A process as State shows it. ``exit`` is None until it has ended, or its start has failed."""

    id: str
    pid: int
    state: State
    streams: Streams
    exit: Exit | None


class TaskProcess:
    """One process of a container. Owns its streams and its child."""

    def __init__(self, process_id: str, what: str, io: ProcessIO) -> None:
        self.id = process_id
        self.machine = Machine(what)
        self.io = io
        self.pid = 0
        self.exit: Exit | None = None
        self.exit_told = False
        """Whether the exit was published, which is done once, after the start was."""
        self.child: Child | None = None
        self.lock = asyncio.Lock()
        """Held by Start and Delete of this process, which run the OCI runtime. State, Wait, Kill never take it."""
        self._settled = asyncio.Event()
        self._starter: asyncio.Task[object] | None = None
        self._unwanted = False

    @property
    def state(self) -> State:
        """The state now."""
        return self.machine.state

    def snapshot(self) -> Snapshot:
        """The process as it is now."""
        return Snapshot(self.id, self.pid, self.state, self.io.streams, self.exit)

    async def wait(self) -> Exit:
        """The exit, once it is recorded.

        Raises:
            NotFound: the process was deleted without ever having run.
        """
        await self._settled.wait()
        if self.exit is None:
            raise NotFound(f"{self.machine.what} was deleted before it ran")
        return self.exit

    @asynccontextmanager
    async def for_start(self) -> AsyncIterator[None]:
        """The lock is held by a Start, by the current task.

        Raises:
            NotFound: it was given up.
        """
        async with self.lock:
            task = self._starter = asyncio.current_task()
            try:
                yield
            except asyncio.CancelledError:
                if not self._unwanted or task is None:
                    raise
                task.uncancel()
                raise NotFound(f"{self.machine.what} has ended or was deleted while it started") from None
            finally:
                self._starter = None

    async def start_over(self) -> None:
        """No Start is under way, or one that hangs."""
        if self._starter is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_STARTS_S), self.lock:
                pass

    @asynccontextmanager
    async def after_start(self, patience_s: float = _STARTS_S) -> AsyncIterator[None]:
        """The lock is held. A Start that is about to return may, one that hangs is ended with its runtime.

        Raises:
            FailedPrecondition: the Start must go on.
        """
        try:
            async with asyncio.timeout(patience_s):
                await self.lock.acquire()
        except TimeoutError:
            self._give_up_start()
            await self.lock.acquire()
        try:
            yield
        finally:
            self.lock.release()

    def _give_up_start(self) -> None:
        if self._starter is not None and not self._unwanted:
            self._unwanted = True
            self._starter.cancel()

    def settle(self, ended: Exit) -> None:
        """The process has ended: from now on State, Wait and Delete say so."""
        self.exit = ended
        self.machine.move(State.STOPPED)
        self._settled.set()

    def fail(self, ended: Exit) -> None:
        """The start has failed for good: whoever waits hears ``ended``. The state stays created, as clients expect it."""
        self.exit = ended
        self._settled.set()

    def forget(self) -> None:
        """The process is deleted: whoever still waits is let go."""
        self.machine.move(State.DELETED)
        self._settled.set()
        if self.child is not None:
            self.child.close()

    def send_signal(self, number: int) -> None:
        """Signal the process itself, through its pidfd.

        Raises:
            FailedPrecondition: it has not been started.
            NotFound: it has ended.
        """
        self.machine.check("kill")
        if self.child is None:
            raise FailedPrecondition(f"{self.machine.what}: process not created")
        try:
            self.child.send_signal(number)
        except ProcessLookupError:
            raise NotFound(f"{self.machine.what}: process already finished") from None

    def resize(self, size: Winsize) -> None:
        """The terminal has ``size``, now or as soon as there is one.

        Raises:
            FailedPrecondition: the process has ended.
        """
        if self.state in {State.STOPPED, State.DELETED}:
            raise FailedPrecondition(f"cannot resize {self.machine.what}: it is {self.state.value}")
        self.io.resize(size)
