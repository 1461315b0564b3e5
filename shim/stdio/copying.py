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
from shim.stdio.exchange import Exchange

if TYPE_CHECKING:
    from shim._native import EventKind
    from shim.linux.fd import OwnedFd

__all__ = ["Copier", "Stream"]

_log = logging.getLogger(__name__)


class Stream:
    """One direction of one process: a source that the relay copies to a sink, until the source ends."""

    def __init__(self, copier: Copier, number: int, name: str, *, to_process: bool) -> None:
        self.name = name
        self.to_process = to_process
        self.copied = 0
        self.dropped = 0
        self.stalled_errno: int | None = None
        self._number = number
        self._copier = copier
        self._ended = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Nothing is copied any more, and the sink is closed."""
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

    def event(self, kind: EventKind, error: int, copied: int, dropped: int) -> None:
        """Take one event of the relay."""
        lost = dropped > self.dropped
        self.copied, self.dropped = copied, dropped
        if kind == "stalled" and error == errno.EPIPE and self.to_process:
            # The process closed its stdin, and nobody will ever open it again.
            self.cancel()
        elif kind == "stalled":
            self.stalled_errno = error
            _log.warning("%s cannot be written, it is tried again: %s", self.name, os.strerror(error))
        elif kind == "resumed":
            self.stalled_errno = None
            _log.info("%s can be written again", self.name)
        elif kind == "end":
            self._ended.set()
            if error:
                _log.warning("%s ended with an error: %s", self.name, os.strerror(error))
        if lost:
            # Input that the process did not want is nothing to warn of.
            level = logging.DEBUG if self.to_process else logging.WARNING
            _log.log(level, "%s: %d bytes dropped", self.name, dropped)


class Copier:
    """All streams of all containers of one shim. For the loop's thread."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        """Where processes meet the clients that take their streams by id."""
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
        self,
        name: str,
        source: OwnedFd,
        sink: OwnedFd,
        *,
        to_process: bool = False,
        eof: bytes = b"",
        pty: bool = False,
    ) -> Stream:
        """Copy from now on; takes ownership of both descriptors. ``name`` appears in log lines.

        With ``to_process`` the sink is the only way to its reader: when it breaks, the stream ends.

        Raises:
            OSError: the descriptors cannot be copied between, or memory or descriptors ran out.
        """
        with source, sink:
            relay = self.relay
            sink.fileno()  # a closed one is refused here, while the source still has its owner
            number = relay.add(source.detach(), sink.detach(), eof=eof, pty=pty)
        stream = self._streams[number] = Stream(self, number, name, to_process=to_process)
        return stream

    def close(self) -> None:
        """End all streams, whose unwritten bytes are lost and counted, and the thread."""
        if self._relay is None:
            return
        self._collect()
        asyncio.get_running_loop().remove_reader(self._relay.fileno())
        for number, stream in self._streams.items():
            # Told from here, as the relay takes its events with it.
            stream.event("end", 0, stream.copied, stream.dropped + self._relay.pending(number))
        self._streams.clear()
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
