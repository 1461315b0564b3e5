"""Output that lies in a FIFO, for a client that has not come to read it."""

from __future__ import annotations

import asyncio
import os
import select
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["until_read"]

_PATIENCE_S = 10.0
_LOOK_S = 0.05


async def until_read(paths: Iterable[str]) -> None:
    """Nothing unread is in those of ``paths`` that are FIFOs, or nobody came for it in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    with ExitStack() as stack:
        poll = select.poll()
        for path in set(paths):
            with suppress(OSError):
                if stat.S_ISFIFO(os.stat(path).st_mode):
                    # A descriptor of ours is no reader: it only looks.
                    fd = OwnedFd(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                    poll.register(stack.enter_context(fd), select.POLLIN)
        while loop.time() < deadline and any(  # noqa: ASYNC110 - of what others do with a FIFO there is no event
            events & select.POLLIN for _, events in poll.poll(0)
        ):
            await asyncio.sleep(_LOOK_S)
