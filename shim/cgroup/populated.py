"""The file cgroup.events of one v2 group: is a process in it, is it frozen, and wait until that changes.

The kernel reports a change as a priority event (POLLPRI, with POLLERR), and goes on reporting it until the file is
read again from its start. It reports at most one change in 10 ms and delays the next one that long. A plain wait for
readability returns at once: the file is always readable. asyncio watches for nothing else, so the descriptor goes into
an epoll of its own, which becomes readable when the priority event is there.

Source: kernel Documentation/admin-guide/cgroup-v2.rst, "[Un]populated Notification"; kernfs_fop_poll in fs/kernfs.
"""

from __future__ import annotations

import os
import select
from contextlib import closing
from typing import TYPE_CHECKING, Self

from shim.cgroup.tree import GONE
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    import asyncio

__all__ = ["EventsFile"]


class EventsFile:
    """cgroup.events, open; close it, or use it in a ``with`` block.

    Raises:
        OSError: there is no such group.
    """

    def __init__(self, directory: str) -> None:
        self._fd = OwnedFd(os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Closed; the second time nothing happens."""
        self._fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def populated(self) -> bool:
        """Whether a live process is in the group or below it; False once the group is removed."""
        return b"populated 1" in self._read()

    def frozen(self) -> bool:
        """Whether all processes of the group are stopped by the freezer."""
        return b"frozen 1" in self._read()

    def _read(self) -> bytes:
        try:
            # From the start: this is what ends the priority event.
            return os.pread(self._fd.fileno(), 4096, 0)
        except OSError as error:
            if error.errno in GONE:
                return b""
            raise

    def wait(self, timeout_s: float) -> None:
        """The file changed since it was read last, or ``timeout_s`` seconds passed."""
        poll = select.poll()
        poll.register(self._fd.fileno(), select.POLLPRI)
        poll.poll(max(timeout_s, 0) * 1000)

    async def changed(self, timeout_s: float) -> None:
        """As ``wait``, without blocking the loop."""
        import asyncio  # noqa: PLC0415 - the command line removes groups too and must not pay for it

        loop = asyncio.get_running_loop()
        done = loop.create_future()
        with closing(select.epoll()) as epoll:
            epoll.register(self._fd.fileno(), select.EPOLLPRI)
            loop.add_reader(epoll.fileno(), _resolve, done)
            timer = loop.call_later(max(timeout_s, 0), _resolve, done)
            try:
                await done
            finally:
                timer.cancel()
                loop.remove_reader(epoll.fileno())


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
