"""One line of JSON for every request, written before its answer leaves: whoever kills the daemon then takes no line along.

Whoever has added a line writes it, and all that others have added meanwhile, in the thread that has answered: to wake another
one would take longer than the request. While nothing can be written, or more waits for that than may be kept, no request is
answered but with 503, as Vault does: what nobody can account for does not happen. Those that were on their way when it began
get the same, whatever they have done, which is in their lines. A thread of the log's own tries again, so that it goes on by
itself; no line is lost meanwhile.

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
_LOCK_S: Final = 5.0
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
    """Appends to ``path``, mode 0600, or writes to stderr. Calls may come from any thread."""

    def __init__(self, path: str) -> None:
        """The file is open.

        Raises:
            ShimError: the file cannot be opened.
        """
        self._lines: deque[bytes] = deque()
        self._wanted = threading.Event()  # of the thread
        self._closing = threading.Event()
        self._lock = threading.Lock()  # guards what follows, and is held while a disk is waited for
        self._rest = b""  # of lines that were taken, and are not written yet
        self._trouble = ""
        self._file, self._path = _open(path), path
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """What is added now will be kept. Never waits.

        Raises:
            Unavailable: nothing can be written at this time.
        """
        if self._trouble:
            raise Unavailable(f"the audit log cannot be written: {self._trouble}")
        if len(self._lines) >= _MAX_WAITING:
            raise Unavailable(f"{_MAX_WAITING} lines wait for the disk of the audit log")

    def add(self, members: Mapping[str, Any]) -> None:
        """A line with ``members``, and the time, will be written, by the next who writes. Never waits."""
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._lines.append(json.dumps({"time": at, **members}, separators=(",", ":")).encode("ascii") + b"\n")

    def write(self) -> None:
        """All that was added is in the file. Blocks for as long as a disk does.

        Raises:
            Unavailable: it is not; it will be as soon as it can.
        """
        with self._lock:
            self._write()
            if self._trouble:
                self._wanted.set()
                raise Unavailable(f"the audit log cannot be written: {self._trouble}")

    def write_soon(self) -> None:
        """What was added will be in the file, whoever else writes. Never waits."""
        self._wanted.set()

    def reopen(self, path: str) -> None:
        """What is written from now on goes to ``path``, opened again: somebody has renamed the file, or wants another.

        Raises:
            ShimError: it cannot be opened, or the old one hangs; that stays.
        """
        file = _open(path)
        if not self._lock.acquire(timeout=_LOCK_S):
            _close(file)
            raise Unavailable(f"the audit log {self._path} is being written for more than {_LOCK_S:g} s")
        try:
            superseded, self._file, self._path = self._file, file, path
        finally:
            self._lock.release()
        _close(superseded)
        self._wanted.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """All lines are written that could be within ``timeout_s``, and the file is closed; the log has how many could not."""
        self._closing.set()
        self._wanted.set()
        self._thread.join(timeout_s)
        if left := self._rest.count(b"\n") + len(self._lines):
            _log.error("%d lines of the audit log %s could not be written", left, self._path)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            with self._lock:
                self._write()
                if self._closing.is_set():
                    _close(self._file)
                    return
                failed = bool(self._trouble)
            if failed:
                self._closing.wait(_RETRY_S)
                self._wanted.set()

    def _write(self) -> None:
        try:
            while self._rest or self._lines:
                if not self._rest:
                    self._rest = b"".join([self._lines.popleft() for _ in range(len(self._lines))])
                self._rest = self._rest[os.write(self._file, self._rest) :]
        except OSError as error:
            if not self._trouble:
                _log.error("the audit log %s cannot be written: %s", self._path, error.strerror)
            self._trouble = error.strerror or str(error)
        else:
            if self._trouble:
                _log.warning("the audit log %s is written again", self._path)
            self._trouble = ""


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
