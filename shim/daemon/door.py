"""Where connections come in: listening sockets, and those that were accepted and are not connected to anything yet.

That takes time (a TLS handshake, another socket), so each is a task; one that is cancelled, perhaps before it has begun, must
not leave its socket behind.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from shim.transport.listener import Listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

__all__ = ["Door"]


class Door:
    """Made inside the event loop."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._arriving: set[asyncio.Task[None]] = set()

    @property
    def arriving(self) -> int:
        """How many are on their way in."""
        return len(self._arriving)

    def listen(self, sock: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        """Takes ownership of ``sock``; ``accepted`` takes that of each connection."""
        self._listeners.append(Listener(sock, accepted))

    def let_in(self, sock: socket.socket, way: Coroutine[None, None, None], lost: Callable[[], None]) -> None:
        """``way`` connects ``sock``, and owns it from its first step on. If it is cancelled ``sock`` is closed, and ``lost`` called."""
        task = asyncio.create_task(way)
        self._arriving.add(task)
        task.add_done_callback(partial(self._arrived, sock, lost))

    def _arrived(self, sock: socket.socket, lost: Callable[[], None], task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        if task.cancelled():
            sock.close()
            lost()

    def close(self) -> None:
        """Nothing is accepted any more. Idempotent."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def clear(self) -> None:
        """Nothing is accepted any more, and nobody is on the way in."""
        self.close()
        for task in self._arriving:
            task.cancel()
        await asyncio.gather(*self._arriving, return_exceptions=True)
