"""The FIFOs of one process, and the command line's ends of them.

They are made before Create or Exec names them to the shim, and our readers are open before that, so that nobody waits
for anybody. The shim keeps a descriptor of its own on the other side of each, hence a client may go away and come back:
what was written meanwhile is in the FIFO (up to its 64 KiB; then the process waits).

Two clients would each get a part of the output; ``open`` therefore takes a lock that ends with its owner.

Man page: fifo(7), lockf(3).
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, from_os_error
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Fifos", "OpenFifos"]


@dataclass(slots=True)
class OpenFifos:
    """Our ends; whoever has this owns them. None: there is no such stream, or it was given to somebody else."""

    lock: OwnedFd
    stdin: OwnedFd | None = None
    stdout: OwnedFd | None = None
    stderr: OwnedFd | None = None
    stdin_keeper: OwnedFd | None = None
    """A reader of stdin, which let the writer be opened before the shim reads. See ``shim_is_connected``."""

    def shim_is_connected(self) -> None:
        """The shim has its ends open: from now on we see it when the process closes its stdin."""
        if self.stdin_keeper is not None:
            self.stdin_keeper.close()

    def close(self) -> None:
        """All that was not given away is closed."""
        for fd in (self.stdin, self.stdout, self.stderr, self.stdin_keeper, self.lock):
            if fd is not None:
                fd.close()


@dataclass(frozen=True, slots=True)
class Fifos:
    """A directory with FIFOs named as the streams that there are."""

    directory: Path

    @classmethod
    def make(cls, directory: Path, names: tuple[str, ...]) -> Fifos:
        """A new directory with the FIFOs ``names``.

        Raises:
            ShimError: it cannot be made.
        """
        try:
            directory.mkdir(mode=0o700, parents=True)
            for name in names:
                os.mkfifo(directory / name, 0o600)
        except OSError as error:
            raise from_os_error(error, f"cannot make the FIFOs in {directory}") from error
        return cls(directory)

    def remove(self) -> None:
        """The directory and what is in it are gone; for whoever has an end open nothing changes. Idempotent."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name: str) -> str:
        """The path of one FIFO; empty where there is none."""
        path = self.directory / name
        return str(path) if path.exists() else ""

    def open(self, *, stdin: bool) -> OpenFifos:
        """Our ends of all that there are, ``stdin`` only if asked for; the caller owns them.

        Raises:
            FailedPrecondition: another client has them.
            ShimError: they cannot be opened.
        """
        with ExitStack() as undo:
            lock = undo.enter_context(self._lock())
            # Reading without O_NONBLOCK would wait for a writer.
            opened = OpenFifos(lock)
            undo.callback(opened.close)
            opened.stdout = self._open_if_there("stdout", os.O_RDONLY)
            opened.stderr = self._open_if_there("stderr", os.O_RDONLY)
            if stdin:
                # Writing with O_NONBLOCK fails (ENXIO) while nobody reads; O_RDWR never does.
                opened.stdin_keeper = self._open_if_there("stdin", os.O_RDWR)
                opened.stdin = self._open_if_there("stdin", os.O_WRONLY)
            undo.pop_all()
            return opened

    def _open_if_there(self, name: str, flags: int) -> OwnedFd | None:
        return self._open(name, flags) if self.path(name) else None

    def _open(self, name: str, flags: int) -> OwnedFd:
        path = self.directory / name
        try:
            return OwnedFd(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            raise from_os_error(error, f"cannot open {path}") from error

    def _lock(self) -> OwnedFd:
        lock = self._open("lock", os.O_RDWR | os.O_CREAT)
        try:
            os.lockf(lock.fileno(), os.F_TLOCK, 0)
        except OSError as error:
            lock.close()
            raise FailedPrecondition(
                f"another ocishim is attached to {self.directory}; detach it (ctrl-p ctrl-q), or end it, first"
            ) from error
        return lock
