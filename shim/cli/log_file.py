"""The file that a container's output goes to: printed, and followed while it grows.

The file is followed by its descriptor, not by its name: a log that was rotated away is still the one that the shim
writes to.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from shim.cli.streams import Held
from shim.errors import from_os_error
from shim.linux.fd import OwnedFd
from shim.linux.inotify import FileWatch

if TYPE_CHECKING:
    from shim.cli.streams import Sink

__all__ = ["LogOutput"]

_PIECE = 64 << 10


class LogOutput:
    """A growing file on its way to a sink (an ``Output`` of ``streams.py``). Owns the sink.

    Raises:
        ShimError: the file cannot be read or watched.
    """

    def __init__(self, path: str, sink: Sink, *, from_end: bool = False) -> None:
        self.ended = False
        self._complete = False
        self._behind = True
        self._held = Held(sink)
        try:
            self._watch = FileWatch(path)
            try:
                self._file = OwnedFd(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY))
            except OSError:
                self._watch.close()
                raise
        except OSError as error:
            sink.close()
            raise from_os_error(error, f"log file {path} cannot be read") from error
        if from_end:
            os.lseek(self._file.fileno(), 0, os.SEEK_END)

    @property
    def holds(self) -> bool:
        """Whether it waits for our side, not for the process."""
        return bool(self._held) or self._behind

    def interest(self) -> tuple[int, int]:
        """When the file has grown, or, with more of it at hand, when that can be written."""
        return self._held.interest() if self.holds else (self._watch.fileno(), select.POLLIN)

    def move(self) -> bool:
        """One piece was moved, or the end was found; False when there was nothing to do."""
        if self._held:
            self._held.flush()
            return True
        # First forget what was heard, then look: what is written in between is heard again.
        self._watch.drain()
        data = os.read(self._file.fileno(), _PIECE) or self._after_truncation()
        self._behind = bool(data)
        if data:
            self._held.put(data)
        elif self._complete:
            self.close()
        return bool(data)

    def _after_truncation(self) -> bytes:
        fd = self._file.fileno()
        if os.fstat(fd).st_size >= os.lseek(fd, 0, os.SEEK_CUR):
            return b""
        os.lseek(fd, 0, os.SEEK_SET)
        return os.read(fd, _PIECE)

    def writer_ended(self) -> None:
        """Nothing will be written any more: where the file ends now is the end."""
        self._complete = self._behind = True

    def discard(self) -> None:
        """The same as the end: nobody needs us to read a file."""
        self.close()

    def close(self) -> None:
        """Closed."""
        self.ended = True
        self._held.close()
        self._watch.close()
        self._file.close()
