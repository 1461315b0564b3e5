"""asyncio's side of the native relay: which stream ended, and what it had to drop.

The relay copies in a thread of its own, in C, without the GIL; here only its events are read. It starts with the first stream.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from typing import TYPE_CHECKING

from shim._native import Relay

if TYPE_CHECKING:
    from shim.linux.fd import OwnedFd

__all__ = ["Copier", "Stream"]

_log = logging.getLogger(__name__)


class Stream:
    """One direction of one process: a source that the relay copies to a sink, until the source ends."""

    def __init__(self, copier: Copier, number: int, name: str) -> None:
        self.name = name
        self.copied = 0
        self.dropped = 0
        self.stalled_errno: int | None = None
        self._number = number
        self._copier = copier
        self._ended = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Everything was copied, and the sink is closed."""
        return self._ended.is_set()

    async def wait_ended(self) -> None:
        """Return once the stream has ended."""
        await self._ended.wait()

    def finish(self) -> None:
        """End it with what can be read now: whoever still holds the other end is not waited for."""
        if not self.ended:
            self._copier.relay.finish(self._number)

    def cancel(self) -> None:
        """End it at once; what was read and not written is lost, and counted."""
        if not self.ended:
            self._copier.relay.cancel(self._number)

    def event(self, kind: str, error: int, copied: int, dropped: int) -> None:
        """Take one event of the relay."""
        self.copied, self.dropped = copied, dropped
        if kind == "end":
            self._ended.set()
        if kind == "stalled" and error == errno.EPIPE:
            # The process closed its stdin, and nobody will ever open it again.
            self.cancel()
        elif kind == "stalled":
            self.stalled_errno = error
            _log.warning("%s cannot be written: %s; retrying", self.name, os.strerror(error))
        elif kind == "resumed":
            self.stalled_errno = None
            _log.info("%s can be written again", self.name)
        if kind == "dropped" or (kind == "end" and dropped):
            _log.warning("%s: %d bytes dropped", self.name, dropped)


class Copier:
    """All streams of all containers of one shim."""

    def __init__(self) -> None:
        self._relay: Relay | None = None
        self._streams: dict[int, Stream] = {}

    @property
    def relay(self) -> Relay:
        """The native relay; its thread starts now if it has not yet."""
        if self._relay is None:
            self._relay = Relay()
            asyncio.get_running_loop().add_reader(self._relay.fileno(), self._collect)
        return self._relay

    def __len__(self) -> int:
        return len(self._streams)

    def copy(
        self, name: str, source: OwnedFd, sink: OwnedFd, *, eof: bytes = b"", pty: bool = False
    ) -> Stream:
        """Copy from now on; takes ownership of both descriptors. ``name`` appears in log lines."""
        number = self.relay.add(source.detach(), sink.detach(), eof=eof, pty=pty)
        stream = Stream(self, number, name)
        self._streams[number] = stream
        return stream

    def close(self) -> None:
        """End all streams and the thread."""
        if self._relay is not None:
            asyncio.get_running_loop().remove_reader(self._relay.fileno())
            self._relay.close()
            self._relay = None

    def _collect(self) -> None:
        for event in self.relay.poll():
            stream = self._streams.get(event.stream)
            if stream is None:
                continue
            if event.kind == "end":
                del self._streams[event.stream]
            stream.event(event.kind, event.errno, event.copied, event.dropped)
