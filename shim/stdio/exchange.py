"""Streams that a client takes by an id, over ttrpc, instead of a FIFO by a path.

A channel is to its client what a FIFO is: a pipe of which the process's side has one end, and this side the other. So the
relay, the draining and the back-pressure are those of FIFOs, a client may go and another come, and what nobody has read
lies in the pipe. Clients come before the process, too, and wait for it.

Of two clients for one channel the later one has it: the earlier is a connection that died unnoticed.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shim.errors import Aborted, AlreadyExists
from shim.linux.fd import OwnedFd, pipe
from shim.stdio.readiness import readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Channel", "Exchange"]


class Channel:
    """This side of one pipe. ``to_process``: it is written, else read. Owns its end until ``withdraw``, or the client's end."""

    def __init__(self, stream_id: str, fd: OwnedFd, *, to_process: bool) -> None:
        self.id = stream_id
        self.to_process = to_process
        self.withdrawn = asyncio.Event()
        """Set when the process is gone, and nobody will come for the channel any more."""
        self._fd = fd
        self._holder: asyncio.Task[object] | None = None
        self._contested = False
        self._released = False
        self._unwritten = bytearray()
        self._finishing = False
        self._waiting = False
        self._drained = asyncio.Event()
        self._drained.set()
        os.set_blocking(fd.fileno(), False)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Callable[[], bool]]:
        """The current task is the client, and what it gets tells whether it still is; an earlier one was cancelled."""
        task = asyncio.current_task()
        while self._holder is not None:
            # Until it has ended it may still watch our descriptor, which has room for one watcher.
            self._contested = True
            self._holder.cancel()
            await asyncio.wait([self._holder])
        self._holder, self._contested = task, False
        try:
            yield lambda: not self._contested
        finally:
            self._holder = None
            self._left()

    # For a channel that is read.

    async def read(self, limit: int, may_read: Callable[[], bool]) -> bytes:
        """At most ``limit`` bytes, once there are some, b"" at the end. Nothing waits between reading and returning.

        Raises:
            Aborted: ``may_read`` says no, so that what is read would be lost.
        """
        while True:
            if not may_read():
                raise Aborted(f"stream {self.id} was taken over")
            if self._fd.closed:
                return b""
            try:
                return os.read(self._fd.fileno(), limit)
            except BlockingIOError:
                await readable(self._fd.fileno())

    # For a channel that is written.

    def write(self, data: bytes) -> None:
        """The process will get ``data``, also when the client leaves now; nobody gets it when the process wants none."""
        if self._fd.closed:
            return
        self._unwritten += data
        self._drained.clear()
        self._flush()

    async def drained(self) -> None:
        """Return once everything written is in the pipe, or nobody wants it."""
        await self._drained.wait()

    def finish(self) -> None:
        """The process sees the end after what was written. Idempotent."""
        self._finishing = True
        if not self._unwritten:
            self._close()

    def release(self) -> None:
        """As ``finish``, when there is no client or the client that there is has left: it may have more to write."""
        self._released = True
        if self._holder is None:
            self.finish()

    def withdraw(self) -> None:
        """The process is gone; a client that reads still gets the rest."""
        self.withdrawn.set()
        if self.to_process or self._holder is None:
            self._close()

    def _left(self) -> None:
        if self.withdrawn.is_set():
            self._close()
        elif self._released and self.to_process:
            self.finish()

    def _flush(self) -> None:
        try:
            while self._unwritten:
                del self._unwritten[: os.write(self._fd.fileno(), self._unwritten)]
        except BlockingIOError:
            self._watch()
            return
        except OSError:  # the process has closed its stdin for good
            self._close()
            return
        self._unwatch()
        self._drained.set()
        if self._finishing:
            self._close()

    def _watch(self) -> None:
        if not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().add_writer(self._fd.fileno(), self._flush)

    def _unwatch(self) -> None:
        if self._waiting:
            self._waiting = False
            asyncio.get_running_loop().remove_writer(self._fd.fileno())

    def _close(self) -> None:
        if self._fd.closed:
            return
        self._unwatch()
        self._unwritten.clear()
        self._drained.set()
        self._fd.close()


class Exchange:
    """All channels of one shim."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def offer(self, stream_id: str, *, to_process: bool) -> tuple[OwnedFd, Channel]:
        """The process's end of a new pipe, which the caller owns, and the channel of the other, to be withdrawn.

        Raises:
            AlreadyExists: another process has that id.
            OSError: there can be no pipe.
        """
        if stream_id in self._channels:
            raise AlreadyExists(f"stream {stream_id}")
        source, sink = pipe()
        theirs, ours = (source, sink) if to_process else (sink, source)
        channel = self._channels[stream_id] = Channel(stream_id, ours, to_process=to_process)
        for waiting in self._waiting.get(stream_id, ()):
            if not waiting.done():
                waiting.set_result(None)
        return theirs, channel

    def withdraw(self, channel: Channel) -> None:
        """The id is free again, and the channel ends once a client that reads it has all."""
        if self._channels.get(channel.id) is channel:
            del self._channels[channel.id]
        channel.withdraw()

    async def find(self, stream_id: str) -> Channel:
        """The channel of that id, now or when a process has one."""
        while (channel := self._channels.get(stream_id)) is None:
            # One each: of two clients the one that leaves must not take the other's news with it.
            news = asyncio.get_running_loop().create_future()
            others = self._waiting.setdefault(stream_id, [])
            others.append(news)
            try:
                await news
            finally:
                others.remove(news)
                if not others:
                    self._waiting.pop(stream_id, None)
        return channel
