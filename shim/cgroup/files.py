"""Small files that are read again and again: opened once, then one pread(2) each time instead of three calls and a path.

An open file of a cgroup keeps nobody from removing the group; a read finds ENODEV then. It costs a descriptor, and the
kernel a page for what was read last. So there is a bound for the whole process, above which files are not kept.

Source: cgroups(7); kernel fs/kernfs/file.c.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING

from shim.cgroup.tree import CHUNK, GONE, read_file
from shim.errors import from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

__all__ = ["GroupFiles", "OpenFiles", "ReadFile"]

ReadFile: TypeAlias = "Callable[[str], bytes]"
"""``read_file`` of ``tree``, or ``read`` of an ``OpenFiles``."""

# EOPNOTSUPP: pressure that is switched off.
_NOTHING = GONE | {errno.EOPNOTSUPP}

_MOST = 2048
_MISSING = -1


class OpenFiles:
    """Reads files by their paths, which it keeps open until ``close``."""

    __slots__ = ("_fds",)

    _kept = 0
    """Of all of them together."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(fd != _MISSING for fd in self._fds.values())

    def read(self, path: str) -> bytes:
        """The whole content of ``path`` as it is now. One that was missing once is not looked for again.

        Raises:
            OSError: as open(2) and read(2); ENODEV when the group was removed.
        """
        fd = self._fds.get(path)
        if fd is None and (fd := self._open(path)) is None:
            return read_file(path)
        if fd == _MISSING:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        content = chunk = os.pread(fd, CHUNK, 0)
        while len(chunk) == CHUNK:
            chunk = os.pread(fd, CHUNK, len(content))
            content += chunk
        return content

    def _open(self, path: str) -> int | None:
        if OpenFiles._kept >= min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4):
            return None
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            fd = _MISSING
        else:
            OpenFiles._kept += 1
        self._fds[path] = fd
        return fd

    def close(self) -> None:
        """No file is open; they are opened again when they are read. Idempotent."""
        fds, self._fds = [fd for fd in self._fds.values() if fd != _MISSING], {}
        OpenFiles._kept -= len(fds)
        for fd in fds:
            os.close(fd)


class GroupFiles:
    """The files of one group by their names. What is missing has no content: a file, a controller, the group itself."""

    __slots__ = ("_directory", "_read_file", "_unlimited")

    def __init__(self, directory: str, read_file: ReadFile, *, unlimited: int) -> None:
        """``unlimited`` is the number for "max"."""
        self._directory = directory
        self._read_file = read_file
        self._unlimited = unlimited

    def content(self, name: str) -> bytes:
        """All that is in it now.

        Raises:
            ShimError: it cannot be read.
        """
        try:
            return self._read_file(f"{self._directory}/{name}")
        except OSError as error:
            if error.errno in _NOTHING:
                return b""
            raise from_os_error(error, f"cgroup {self._directory} cannot be read") from error

    def number(self, name: str) -> int:
        """The one number in it, 0 if there is none."""
        text = self.content(name)
        return self._unlimited if text == b"max\n" else int(text or 0)

    def pairs(self, name: str) -> dict[bytes, int]:
        """Its lines of a name and a number."""
        words = self.content(name).split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))
