"""asyncio's side of the native relay: which stream ended, and what it had to drop.

A relay copies in a thread of its own, in C, without the GIL; here only its events are read. It starts with the first stream.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from typing import TYPE_CHECKING

from shim._native import Relay
from shim.stdio.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim._native import EventKind
    from shim.linux.fd import OwnedFd

__all__ = ["Copier", "Stream"]

_log = logging.getLogger(__name__)


class Stream:
    """One direction of one process: a source that the relay copies to a sink, until the source ends."""

    def __init__(self, relay: Relay, number: int, name: str, *, to_process: bool) -> None:
        self.name = name
        self.to_process = to_process
        self.copied = 0
        self.dropped = 0
        self.stalled_errno: int | None = None
        self._number = number
        self._relay = relay
        self._ended = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Nothing is copied any more, and the sink is closed."""
        return self._ended.is_set()

    @property
    def hangs_s(self) -> float:
        """How long a write has been hanging, of this stream or another to the same disk; next to nothing if none does."""
        return 0.0 if self.ended else self._relay.busy_s

    async def wait_ended(self) -> None:
        """Return once the stream has ended."""
        await self._ended.wait()

    def finish(self) -> None:
        """End it with what can be read now: whoever still holds the other end is not waited for."""
        if not self.ended:
            self._relay.finish(self._number)

    def cancel(self) -> None:
        """End it at once; what was read and not written is lost, and counted."""
        if not self.ended:
            self._relay.cancel(self._number)

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


class _Lane:
    """One relay and its streams. Its thread and its descriptors are there from the beginning until ``close``."""

    def __init__(self, emptied: Callable[[], None]) -> None:
        """``emptied`` is called when the last stream has ended.

        Raises:
            OSError: memory, threads or descriptors ran out.
        """
        self.relay = Relay()
        self.streams: dict[int, Stream] = {}
        self._emptied = emptied
        asyncio.get_running_loop().add_reader(self.relay.fileno(), self._collect)

    def add(self, source: OwnedFd, sink: OwnedFd, *, eof: bytes, pty: bool) -> int:
        """See ``Relay.add``; takes ownership of both descriptors."""
        try:
            return self.relay.add(source.detach(), sink.detach(), eof=eof, pty=pty)
        except OSError:
            self._check_empty()
            raise

    def close(self) -> None:
        """End all streams, whose unwritten bytes are lost and counted, and the thread, once it does not hang any more."""
        self._collect()
        asyncio.get_running_loop().remove_reader(self.relay.fileno())
        for number, stream in self.streams.items():
            # Told from here, as the relay takes its events with it.
            stream.event("end", 0, stream.copied, stream.dropped + self.relay.pending(number))
        self.streams.clear()
        self.relay.close()

    def _collect(self) -> None:
        for event in self.relay.poll():
            stream = self.streams.get(event.stream)
            if stream is None:
                continue
            if event.kind == "end":
                del self.streams[event.stream]
            stream.event(event.kind, event.errno, event.copied, event.dropped)
        self._check_empty()

    def _check_empty(self) -> None:
        if not self.streams:
            self._emptied()


class Copier:
    """All streams of all containers of one shim. For the loop's thread.

    There is one lane for everything that never blocks its writer, and one for the files of each file system, as long as it
    has streams: when a disk hangs, so does the thread that writes to it.
    """

    def __init__(self) -> None:
        self.exchange = Exchange()
        """Where processes meet the clients that take their streams by id."""
        self._lanes: dict[int | None, _Lane] = {}

    def __len__(self) -> int:
        return sum(len(lane.streams) for lane in self._lanes.values())

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
            lane = self._lane(_file_system(sink.fileno()))
            number = lane.add(source, sink, eof=eof, pty=pty)
        stream = lane.streams[number] = Stream(lane.relay, number, name, to_process=to_process)
        return stream

    def close(self) -> None:
        """End all streams, whose unwritten bytes are lost and counted, and the threads."""
        while self._lanes:
            self._lanes.popitem()[1].close()

    def _lane(self, file_system: int | None) -> _Lane:
        if file_system not in self._lanes:
            self._lanes[file_system] = _Lane(lambda: self._emptied(file_system))
        return self._lanes[file_system]

    def _emptied(self, file_system: int | None) -> None:
        if file_system is not None and file_system in self._lanes:
            self._lanes.pop(file_system).close()


def _file_system(fd: int) -> int | None:
    """The device number of the file system whose file ``fd`` is; None for FIFOs, terminals and devices."""
    status = os.fstat(fd)
    return status.st_dev if stat.S_ISREG(status.st_mode) else None
