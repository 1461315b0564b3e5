"""What a short-lived child prints, read while it runs, bounded in memory.

The child must never wait for us, so all it prints is taken; what exceeds the bounds is dropped from the middle: the
beginning of an output names a wrong option, its end the last error.

Man pages: pipe(7).
"""

from __future__ import annotations

import asyncio
import os
from typing import Self

from shim.linux.fd import pipe

__all__ = ["Capture"]

# More than a pipe can hold unless somebody enlarged it: one read takes all that is there.
_CHUNK = 1 << 20


class Capture:
    """A pipe; ``sink`` is its write end, for the child. Owns both ends; use as a context manager."""

    def __init__(self, *, head: int, tail: int = 0) -> None:
        self._head_limit = head
        self._tail_limit = tail
        self._head = bytearray()
        self._tail = bytearray()
        self._source, self.sink = pipe()
        os.set_blocking(self._source.fileno(), False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._source.fileno(), self._take)

    def finish(self) -> bytes:
        """What was printed; what a grandchild that still holds the pipe prints from now on is not waited for."""
        self.sink.close()
        if not self._source.closed:
            self._take()
        self._close_source()
        return bytes(self._head + self._tail)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sink.close()
        self._close_source()

    def _take(self) -> None:
        try:
            chunk = os.read(self._source.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self._close_source()
            return
        room = self._head_limit - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        del self._tail[: max(0, len(self._tail) - self._tail_limit)]

    def _close_source(self) -> None:
        if not self._source.closed:
            self._loop.remove_reader(self._source.fileno())
            self._source.close()
