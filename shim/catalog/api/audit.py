"""One line of JSON for every request, written before its answer leaves.

A thread of its own writes: a sick disk must not hold up the event loop. While it cannot write, or has more to write than it
may keep, no request is answered but with 503, as Vault does: what nobody can account for does not happen. It goes on by itself
when it can write again; no line is lost meanwhile.

No line has a secret: of a token there is the accessor, of what is none a keyed hash, by which tries are told apart from each
other as long as the daemon runs; of parameters only the names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from shim.errors import Unavailable, from_os_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.catalog.tokens import Token

__all__ = ["STDERR", "AuditLog", "who"]

STDERR: Final = "stderr"

_MAX_WAITING: Final = 4096
_RETRY_S: Final = 0.5
_STDERR_FD: Final = 2

_log = logging.getLogger(__name__)
_key: Final = secrets.token_bytes(32)


def who(caller: Token | None, secret: str) -> dict[str, Any]:
    """The members of a line that tell who asked."""
    if caller is not None:
        return {
            "accessor": caller.accessor,
            "display_name": caller.display_name,
            "policies": list(caller.policies),
        }
    return {"hmac": hmac.new(_key, secret.encode(), hashlib.sha256).hexdigest()} if secret else {}


class AuditLog:
    """Appends to ``path``, mode 0600, or writes to stderr. The file is the thread's, which alone writes and closes it."""

    def __init__(self, path: str) -> None:
        """The file is open, and the thread runs.

        Raises:
            ShimError: the file cannot be opened.
        """
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # those included that the thread has taken, and not written yet
        self._changed = threading.Condition()  # guards all of these
        self._opened: tuple[int, str] | None = None
        self._closing = False
        self._trouble = ""
        self._file, self._path = _open(path), path
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """What is written now will be kept.

        Raises:
            Unavailable: nothing can be written at this time.
        """
        if self._trouble:
            raise Unavailable(f"the audit log cannot be written: {self._trouble}")
        if self._waiting >= _MAX_WAITING:
            raise Unavailable(f"{_MAX_WAITING} lines wait for the disk of the audit log")

    def write(self, members: Mapping[str, Any]) -> None:
        """A line with ``members``, and the time, will be written. Never waits."""
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        line = json.dumps({"time": at, **members}, separators=(",", ":")).encode("ascii") + b"\n"
        with self._changed:
            self._lines.append(line)
            self._waiting += 1
            self._changed.notify()

    def reopen(self, path: str) -> None:
        """What is written from now on goes to ``path``, opened again: somebody has renamed the file, or wants another.

        Raises:
            ShimError: it cannot be opened; the old one stays.
        """
        file = _open(path)
        with self._changed:
            superseded, self._opened = self._opened, (file, path)
            self._changed.notify()
        if superseded is not None:
            _close(superseded[0])

    def close(self, timeout_s: float = 5.0) -> None:
        """All lines are written that could be within ``timeout_s``, and the file is closed; the log has how many could not."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._waiting:
            _log.error("%d lines of the audit log %s could not be written", self._waiting, self._path)

    # The thread.

    def _run(self) -> None:
        batch, taken = b"", 0
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, _RETRY_S if batch else None)
                lines, self._lines = self._lines, deque()
                opened, self._opened = self._opened, None
                ending = self._closing
            if opened is not None:
                _close(self._file)
                self._file, self._path = opened
            batch += b"".join(lines)
            taken += len(lines)
            batch = self._write(batch)
            if not batch:
                with self._changed:
                    self._waiting -= taken
                taken = 0
            if ending and (batch or not self._lines):
                _close(self._file)
                return

    def _has_work(self) -> bool:
        # While it cannot write, it wakes up to try, and not for each line that comes.
        return bool(self._closing or self._opened or (self._lines and not self._trouble))

    def _write(self, batch: bytes) -> bytes:
        """What could not be written."""
        try:
            while batch:
                batch = batch[os.write(self._file, batch) :]
        except OSError as error:
            if not self._trouble:
                _log.error("the audit log %s cannot be written: %s", self._path, error.strerror)
            self._trouble = error.strerror or str(error)
        else:
            if self._trouble:
                _log.warning("the audit log %s is written again", self._path)
            self._trouble = ""
        return batch


def _open(path: str) -> int:
    if path == STDERR:
        return _STDERR_FD
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    except OSError as error:
        raise from_os_error(error, f"the audit log {path} cannot be opened") from error


def _close(file: int) -> None:
    if file != _STDERR_FD:
        os.close(file)
