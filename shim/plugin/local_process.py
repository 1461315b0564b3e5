"""A plugin that is a process of this host, ours or somebody else's: known by its pidfd.

The exit is read by the pidfd and not by asyncio's child watcher, whose ``wait`` also waits, up to Python 3.12, until nobody
holds the plugin's output any more. Of a process that is not our child the kernel tells the status since Linux 6.15 only.

Man pages: pidfd_open(2), waitpid(2).
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.errors import from_os_error
from shim.linux.pidfd import exit_status_of, pidfd_open
from shim.process import Child, Exit

if TYPE_CHECKING:
    from shim.linux.fd import OwnedFd

__all__ = ["LocalProcess"]

_UNKNOWN_STATUS = 255 << 8


class LocalProcess:
    """An ``AttachedRunner``. Watches the process in the event loop it was made in until that ends, or ``detach``."""

    def __init__(self, pid: int, pidfd: OwnedFd) -> None:
        """Takes ownership of ``pidfd``; ``attach`` is for those that have none."""
        self._fd = pidfd.fileno()
        self._child = Child(pid, pidfd)
        asyncio.get_running_loop().add_reader(self._fd, self._ended)

    @classmethod
    def attach(cls, pid: int) -> LocalProcess:
        """The process ``pid``.

        Raises:
            NotFound: there is none.
            ShimError: it cannot be watched.
        """
        try:
            return cls(pid, pidfd_open(pid))
        except OSError as error:
            raise from_os_error(error, f"process {pid}") from error

    @property
    def id(self) -> str:
        """The pid."""
        return str(self._child.pid)

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self._child.exit

    async def wait(self) -> int:
        """The exit status, 128 + n for signal n; 255 where only its parent is told."""
        return (await self._child.wait()).status

    async def kill(self) -> None:
        """SIGKILL, and it has ended."""
        with suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGKILL)
        await self._child.wait()

    def detach(self) -> None:
        """It runs on, and nobody here waits for it any more."""
        if self._child.exit is None:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._child.close()

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """The same: both see the same files and ports."""
        return network, address

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """The same."""
        return network, address

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        try:
            status = os.waitpid(self._child.pid, 0)[1]
        except ChildProcessError:
            status = _UNKNOWN_STATUS if (told := exit_status_of(self._fd)) is None else told
        self._child.ended(Exit.from_wait_status(status))
