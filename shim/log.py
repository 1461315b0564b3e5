"""Log lines in logrus' text form, on a descriptor that must never make a shim wait.

containerd reads a shim's log from a FIFO; when containerd is down nobody does. The descriptor is therefore put into
non-blocking mode and a line that does not fit is dropped and counted; the next line that fits says how many.

Source: containerd docs/runtime-v2.md, "Logging".
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime

__all__ = ["LineFormatter", "NonBlockingHandler", "setup"]

_LEVELS = {"WARNING": "warning", "CRITICAL": "fatal"}


class LineFormatter(logging.Formatter):
    """``time="…" level=info msg="…"``, one line a record, a traceback as an escaped ``error=`` field."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line without a newline."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        level = _LEVELS.get(record.levelname, record.levelname.lower())
        line = f'time="{at}" level={level} msg={json.dumps(record.getMessage())} logger={record.name}'
        if record.exc_info:
            line += f" error={json.dumps(self.formatException(record.exc_info))}"
        return line


class NonBlockingHandler(logging.Handler):
    """Writes whole lines to a descriptor that it does not own; drops what does not fit, and says so later."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._dropped = 0
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or count it as dropped."""
        line = self.format(record)
        if self._dropped:
            line = f"{line} dropped_lines={self._dropped}"
        data = b"\n" * self._torn + line.encode("utf-8", "surrogateescape") + b"\n"
        try:
            written = os.write(self._fd, data)
        except OSError:
            self._dropped += 1
        else:
            # Of more than PIPE_BUF bytes a pipe takes what fits; the next line must not continue this one.
            self._torn = written < len(data)
            self._dropped = int(self._torn)


def setup(fd: int, *, debug: bool = False) -> None:
    """Send all log records of this process to ``fd`` (not owned) from now on."""
    os.set_blocking(fd, False)
    handler = NonBlockingHandler(fd)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
