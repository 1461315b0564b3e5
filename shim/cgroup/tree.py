"""Groups on disk: a group is a directory, its processes are lines of cgroup.procs. The same for v1 and v2.

Everything tolerates groups that disappear while it looks: a container that ends takes its groups with it.

Source: cgroups(7); kernel Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, PermissionDenied, ShimError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CHUNK",
    "GONE",
    "descendants",
    "listed",
    "own_pids",
    "pids",
    "read_file",
    "remove_tree",
    "translated",
    "write_file",
]

# A group, or the process or controller behind a file, went away between open and read.
GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH})

CHUNK = 16384


def read_file(path: str) -> bytes:
    """The whole content of the small file ``path``.

    Raises:
        OSError: as open(2) and read(2); ENODEV when the group was removed in between.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = chunk = os.read(fd, CHUNK)
        while len(chunk) == CHUNK:
            chunk = os.read(fd, CHUNK)
            content += chunk
    finally:
        os.close(fd)
    return content


def write_file(path: str, value: str) -> None:
    """``value`` was written to ``path`` in one write(2), as the kernel wants it; an empty one as an empty line.

    Raises:
        OSError: as open(2) and write(2), with the path.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, os.fsencode(value) or b"\n")
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)


def descendants(directory: str) -> Iterator[str]:
    """The directories of all groups below ``directory``, each after the groups below it."""
    try:
        # kernfs counts a directory's children in its link number, so a group without children (nearly all of
        # them) costs one stat instead of the listing of some sixty files.
        if os.stat(directory).st_nlink <= 2:
            return
        with os.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in GONE:
            return
        raise
    for child in children:
        yield from descendants(child)
        yield child


def own_pids(directory: str) -> list[int]:
    """The processes in the group itself; empty when it is gone.

    A process outside of our pid namespace appears as 0 and is left out: nobody here could signal it.
    """
    try:
        content = read_file(f"{directory}/cgroup.procs")
    except OSError as error:
        # A threaded group has no processes of its own, only threads; the threaded domain above lists them.
        if error.errno in GONE or error.errno == errno.EOPNOTSUPP:
            return []
        raise
    return [int(line) for line in content.split() if line != b"0"]


def pids(directory: str) -> list[int]:
    """The processes in the group and in all groups below it, ascending, each once."""
    found = set(own_pids(directory))
    for child in descendants(directory):
        found.update(own_pids(child))
    return sorted(found)


def remove_tree(directory: str) -> bool:
    """Whether the group and all groups below it are gone now; False when one of them still has processes."""
    return all(_rmdir(group) for group in (*descendants(directory), directory))


def _rmdir(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno not in GONE:
            raise
    return True


def translated(error: OSError, what: str) -> ShimError:
    """The exception for a failed operation on a group; ``what`` names the group and the operation."""
    if error.errno == errno.EROFS:
        return FailedPrecondition(f"{what}: the cgroup file system is mounted read-only")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionDenied(f"{what}: no permission; the cgroup is not delegated to this user")
    return from_os_error(error, what)


def listed(pids: list[int]) -> str:
    """The first of ``pids``, for a message."""
    return " ".join(map(str, pids[:10])) + (f" and {len(pids) - 10} more" if len(pids) > 10 else "")
