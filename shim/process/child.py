"""One child process: its pidfd for signals, its exit for whoever waits.

The pidfd is the identity. A pid can be somebody else's a moment after the process was reaped; a signal through the
pidfd then fails with ESRCH instead of hitting a stranger. The exit is written once, by the reaper, in the loop's thread.

Man pages: pidfd_open(2), pidfd_send_signal(2).
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.linux.fd import OwnedFd
    from shim.process.exit import Exit

__all__ = ["Child"]


class Child:
    """A process that we started or adopted. Owns its pidfd until ``close``, or until it is collected."""

    __slots__ = ("_callbacks", "_pidfd", "_waiters", "exit", "pid")

    def __init__(self, pid: int, pidfd: OwnedFd | None, ended: Exit | None = None) -> None:
        self.pid = pid
        self.exit = ended
        self._pidfd = pidfd
        self._waiters: set[asyncio.Future[Exit]] = set()
        self._callbacks: list[Callable[[Exit], None]] = []

    def __repr__(self) -> str:
        return f"<Child {self.pid} {'running' if self.exit is None else self.exit}>"

    async def wait(self) -> Exit:
        """The exit, at once when it is known; any number of tasks may wait, and cancelling one harms no other."""
        if self.exit is not None:
            return self.exit
        waiter: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        """Call ``callback`` in the loop's thread at the exit; at once when the process has ended already."""
        if self.exit is not None:
            callback(self.exit)
        else:
            self._callbacks.append(callback)

    def ended(self, ended: Exit) -> None:
        """Record the exit and tell everybody. The reaper calls this, once."""
        self.exit = ended
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(ended)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(ended)

    def send_signal(self, number: int) -> None:
        """Signal the process.

        Raises:
            ProcessLookupError: it has ended.
            OSError: the kernel refused, for example for an invalid number (EINVAL).
        """
        if self.exit is not None or self._pidfd is None or self._pidfd.closed:
            raise ProcessLookupError(3, "process already finished")
        signal.pidfd_send_signal(self._pidfd.fileno(), number)

    def close(self) -> None:
        """Drop the pidfd; the process itself is left as it is."""
        if self._pidfd is not None:
            self._pidfd.close()
