"""One child process: its pidfd for signals, its exit for whoever waits.

The pidfd is the identity. A pid can be somebody else's a moment after the process was reaped; a signal through the
pidfd then fails with ESRCH instead of hitting a stranger. The exit is written once, by the reaper, in the loop's thread.

Man pages: pidfd_open(2), pidfd_send_signal(2).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from typing import TYPE_CHECKING

from shim.linux.pidfd import pidfd_send_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.linux.fd import OwnedFd
    from shim.process.exit import Exit

__all__ = ["Child"]

_log = logging.getLogger(__name__)


class Child:
    """A process that we started or adopted. Owns its pidfd until the exit, or until ``close``."""

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
        """Record the exit and tell everybody. The reaper calls this, once.

        An error in a callback is logged and goes no further: the other callbacks and the rest of the sweep have to run.
        """
        self.exit = ended
        self.close()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(ended)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(ended)
            except Exception:  # noqa: BLE001 - whatever it is, it is logged and the sweep goes on
                _log.exception("telling of the end of process %d failed", self.pid)

    def send_signal(self, number: int) -> None:
        """Signal the process.

        Raises:
            ProcessLookupError: it has ended.
            OSError: the kernel refused, for example for an invalid number (EINVAL).
        """
        if self.exit is not None or (self._pidfd is not None and self._pidfd.closed):
            raise ProcessLookupError(errno.ESRCH, "process already finished")
        try:
            if self._pidfd is None:
                # No descriptor was left for it. It is not reaped, by nobody but us, so the pid is still its own.
                os.kill(self.pid, number)
            else:
                pidfd_send_signal(self._pidfd.fileno(), number)
        except OverflowError:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None

    def close(self) -> None:
        """Drop the pidfd; the process itself is left as it is, and its exit is still told."""
        if self._pidfd is not None:
            self._pidfd.close()
