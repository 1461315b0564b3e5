"""The file system of a running container, from the outside.

Work is done by a thread that has entered the container's mount namespace: a mount can only be attached by somebody who
is in the namespace of its target. The thread keeps the user namespace of this process, and makes files as the container's
root. Every path
inside is hostile: the container may hold any symbolic link and change it at any moment, so each is resolved in the
container's root by the kernel (openat2, RESOLVE_IN_ROOT), once, and used as a descriptor from then on.

Source: setns(2), mount_namespaces(7), openat2(2).
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Self, TypeVar

from shim.errors import FailedPrecondition, InvalidArgument
from shim.linux.fd import OwnedFd
from shim.linux.fsuid import become_root_of, root_of
from shim.linux.namespaces import CLONE_FS, CLONE_NEWNS, apart, setns, unshare
from shim.linux.paths import open_in_root_fd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Inside", "split"]

_T = TypeVar("_T")


class Inside:
    """The mount namespace and the root directory of one process, held open until ``close``."""

    def __init__(self, pid: int) -> None:
        """``pid``: of the container's init, which the caller knows to be alive.

        Raises:
            FailedPrecondition: there is no such process any more, or its file system is this process's own.
        """
        with ExitStack() as stack:
            try:
                self._owner = root_of(pid)
                self._namespace = stack.enter_context(_open(f"/proc/{pid}/ns/mnt", os.O_RDONLY))
                self._root = stack.enter_context(_open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY))
            except (OSError, ValueError) as error:
                raise FailedPrecondition(f"process {pid} has ended, or has no root") from error
            if os.path.samestat(os.fstat(self._namespace.fileno()), os.stat("/proc/self/ns/mnt")):
                raise FailedPrecondition(f"process {pid} has the mounts of the host")
            stack.pop_all()

    def close(self) -> None:
        """Nothing is held any more."""
        self._namespace.close()
        self._root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def run(self, function: Callable[[], _T]) -> _T:
        """What ``function`` returns or raises in a thread that is in the mount namespace."""

        def enter() -> _T:
            # Root and working directory are shared by all threads; one that shares them may not enter.
            unshare(CLONE_FS)
            setns(self._namespace.fileno(), CLONE_NEWNS)
            become_root_of(self._owner)
            return function()

        return apart(enter)

    def open(self, path: str, flags: int = os.O_PATH) -> OwnedFd:
        """What the container sees at ``path``; the caller owns it.

        Raises:
            OSError: as open(2).
        """
        return open_in_root_fd(self._root.fileno(), path, flags)

    def make_parents(self, path: str) -> list[str]:
        """The directory that ``path`` is in exists; returns those that were made, the uppermost first.

        Raises:
            OSError: a part of it is no directory, or the file system is read-only.
        """
        made: list[str] = []
        above, _ = split(path)
        parts = [part for part in above.split("/") if part]
        try:
            for depth in range(1, len(parts) + 1):
                self._make_directory("/" + "/".join(parts[:depth]), made)
        except BaseException:
            self.remove_directories(made)
            raise
        return made

    def _make_directory(self, path: str, made: list[str]) -> None:
        with suppress(FileNotFoundError):
            self.open(path, os.O_PATH | os.O_DIRECTORY).close()
            return
        above, name = split(path)
        with self.open(above, os.O_PATH | os.O_DIRECTORY) as parent:
            os.mkdir(name, 0o755, dir_fd=parent.fileno())
        made.append(path)

    def remove_directories(self, paths: list[str]) -> None:
        """Those of ``paths`` that are empty are gone, the lowest first. Right when it is done again."""
        for path in reversed(paths):
            above, name = split(path)
            try:
                with self.open(above, os.O_PATH | os.O_DIRECTORY) as parent:
                    os.rmdir(name, dir_fd=parent.fileno())
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY}:
                    raise


def _open(path: str, flags: int) -> OwnedFd:
    return OwnedFd(os.open(path, flags | os.O_CLOEXEC))


def split(path: str) -> tuple[str, str]:
    """The directory and the name of an absolute path of a container.

    Raises:
        InvalidArgument: it is not absolute, or has no name at its end.
    """
    above, _, name = path.rstrip("/").rpartition("/")
    if not path.startswith("/") or name in {"", ".", ".."} or "\0" in path:
        raise InvalidArgument(f"{path!r} is no absolute path inside a container")
    return above or "/", name
