"""The terminal that a client gives a process: a path, whose other side the client holds.

The process has a terminal of its own, in its container's /dev/pts, with the line discipline that its programs choose; the
client's is copied to and from it, byte for byte, and so has to be raw: with both cooked, what is typed would be echoed twice.

The size is the client's. The kernel tells of a change by SIGWINCH, and only to the terminal's session, which we are not in:
so it is looked at again and again, for as long as the process runs.

Source: containerd of December 2015, which gave the path to runc as ``--console``; ioctl_tty(2), pty(7).
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from shim.containers.connection import connected
from shim.errors import InvalidArgument, ShimError, from_os_error
from shim.linux.fd import OwnedFd
from shim.linux.pty import get_winsize, make_raw, restore
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from shim.containers.containers import Container
    from shim.linux.pty import Winsize

__all__ = ["Console", "Followers"]

_LOOK_S = 0.25


class Console:
    """A terminal, held open until ``close``."""

    def __init__(self, path: str) -> None:
        """It is open.

        Raises:
            InvalidArgument: it is no terminal.
            ShimError: it cannot be opened.
        """
        try:
            self._fd = OwnedFd(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            raise from_os_error(error, f"console {path} cannot be opened") from error
        if not os.isatty(self._fd.fileno()):
            self._fd.close()
            raise InvalidArgument(f"console {path} is no terminal")

    def close(self) -> None:
        """It is not held any more. Idempotent."""
        self._fd.close()

    def size(self) -> Winsize | None:
        """Its size, if it has one.

        Raises:
            OSError: its other side is closed.
        """
        size = get_winsize(self._fd.fileno())
        return size if all(size) else None

    @contextmanager
    def raw(self) -> Iterator[None]:
        """It is raw, and stays so unless the block raises."""
        saved = make_raw(self._fd.fileno())
        try:
            yield
        except BaseException:
            with suppress(OSError):
                restore(self._fd.fileno(), saved)
            raise


class Followers:
    """The terminals of processes get the sizes that consoles have; ``close`` at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, console: Console, container: Container, exec_id: str = "") -> None:
        """Takes ownership of ``console``, until the process has ended or the client has closed its side."""
        self._begin(_follow(console, container, exec_id))

    def resume(self, container: Container) -> None:
        """The consoles that another daemon has followed are followed again."""
        self._begin(self._resume(container))

    async def _resume(self, container: Container) -> None:
        with suppress(ShimError), closing(await connected(container)) as client:
            execs = [about["id"] for about in (await client.inspect(container.id))["execs"]]
            for exec_id in ("", *execs):
                path, _ = await client.outputs(container.id, exec_id)
                # Its shim has it open: for as long as it is there, the path is that of no other terminal.
                if await in_thread(_is_device, path):
                    with suppress(ShimError):
                        self.follow(Console(path), container, exec_id)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """None is followed any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return False


async def _follow(console: Console, container: Container, exec_id: str) -> None:
    # Whatever is gone, console, process, container or shim: then there is nothing to follow.
    with closing(console), suppress(OSError, ShimError), closing(await connected(container)) as client:
        end = asyncio.create_task(client.wait(container.id, exec_id))
        try:
            size = None
            while not end.done():
                if (now := console.size()) is not None and now != size:
                    await client.resize(container.id, exec_id, now)
                    size = now
                await asyncio.wait([end], timeout=_LOOK_S)
        finally:
            end.cancel()
            await asyncio.gather(end, return_exceptions=True)
