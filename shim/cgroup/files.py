"""The files of one group, read again and again: opened once, then one pread(2) each time instead of three calls and a path.

What is missing has no content: a file, a controller, the group itself. An open file keeps nobody from removing the group;
a read finds ENODEV then. It costs a descriptor, and the kernel a page for what was read last. So there is a bound for the
whole process, above which files are not kept.

Source: cgroups(7); kernel fs/kernfs/file.c.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Self

from shim.cgroup.tree import CHUNK, GONE, read_file
from shim.errors import from_os_error

__all__ = ["GroupFiles"]

# EOPNOTSUPP: pressure that is switched off.
_NOTHING = GONE | {errno.EOPNOTSUPP}
_MISSING = -1
_MOST = 2048


class GroupFiles:
    """The files in ``directory`` by their names. Owns those that it has opened, until ``close``; a context manager."""

    __slots__ = ("_directory", "_fds", "_unlimited")

    _kept = 0
    """Files that are open, of all groups together."""

    def __init__(self, directory: str, *, unlimited: int) -> None:
        """``unlimited`` is the number for "max"."""
        self._directory = directory
        self._unlimited = unlimited
        self._fds: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(fd != _MISSING for fd in self._fds.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def content(self, name: str) -> bytes:
        """All that is in it now. A file that was missing once is not looked for again.

        Raises:
            ShimError: it cannot be read.
        """
        fd = self._fds.get(name)
        try:
            if fd is None and (fd := self._open(name)) is None:
                return read_file(f"{self._directory}/{name}")
            if fd == _MISSING:
                return b""
            content = chunk = os.pread(fd, CHUNK, 0)
            while len(chunk) == CHUNK:
                chunk = os.pread(fd, CHUNK, len(content))
                content += chunk
        except OSError as error:
            if error.errno in _NOTHING:
                return b""
            raise from_os_error(error, f"cgroup {self._directory} cannot be read") from error
        return content

    def number(self, name: str) -> int:
        """The one number in it, 0 if there is none."""
        text = self.content(name)
        return self._unlimited if text == b"max\n" else int(text or 0)

    def pairs(self, name: str) -> dict[bytes, bytes]:
        """Its lines of a name and a value."""
        words = iter(self.content(name).split())
        return dict(zip(words, words, strict=True))

    def close(self) -> None:
        """No file is open; they are opened again when they are read. Idempotent."""
        fds, self._fds = [fd for fd in self._fds.values() if fd != _MISSING], {}
        GroupFiles._kept -= len(fds)
        for fd in fds:
            os.close(fd)

    def _open(self, name: str) -> int | None:
        if GroupFiles._kept >= min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4):
            return None
        try:
            fd = os.open(f"{self._directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            fd = _MISSING
        else:
            GroupFiles._kept += 1
        self._fds[name] = fd
        return fd
