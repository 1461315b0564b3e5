"""A device node in a running container. Whether its processes may use it is for the rules of their cgroup to say.

Source: mknod(2), makedev(3).
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from shim.device.inside import split
from shim.errors import FailedPrecondition, InvalidArgument, from_os_error

if TYPE_CHECKING:
    from shim.device.inside import Inside

__all__ = ["Node", "make_node", "read_node", "remove_node"]

_KINDS = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}


class Node(NamedTuple):
    """A block (``b``) or character (``c``) device by its numbers."""

    kind: str
    major: int
    minor: int


def read_node(path: str) -> Node | None:
    """What device of the host is at ``path``; None where there is something else.

    Raises:
        NotFound: there is nothing.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise from_os_error(error, f"device {path}") from error
    kind = {bits: kind for kind, bits in _KINDS.items()}.get(stat.S_IFMT(found.st_mode))
    return Node(kind, os.major(found.st_rdev), os.minor(found.st_rdev)) if kind else None


def make_node(inside: Inside, path: str, node: Node, *, mode: int, uid: int = 0, gid: int = 0) -> list[str]:
    """The device is at ``path`` in the container; returns the directories that were made, for ``remove_node``.

    Raises:
        AlreadyExists: something is there.
        InvalidArgument: ``path`` is none.
        ShimError: the kernel refuses; nothing is left.
    """
    if node.kind not in _KINDS:
        raise InvalidArgument(f"device kind {node.kind!r}: use c or b")
    split(path)
    try:
        return inside.run(lambda: _make(inside, path, node, mode, (uid, gid)))
    except OSError as error:
        raise from_os_error(error, f"device {path} of the container cannot be made") from error


def _make(inside: Inside, path: str, node: Node, mode: int, owner: tuple[int, int]) -> list[str]:
    above, name = split(path)
    # This thread's own. A chmod(2) afterwards would follow a link that the container has put there meanwhile.
    os.umask(0)
    with ExitStack() as undo:
        made = inside.make_parents(path)
        undo.callback(inside.remove_directories, made)
        with inside.open(above, os.O_PATH | os.O_DIRECTORY) as parent:
            device = os.makedev(node.major, node.minor)
            os.mknod(name, _KINDS[node.kind] | stat.S_IMODE(mode), device, dir_fd=parent.fileno())
            undo.callback(remove_node, inside, path, node, [])
            os.chown(name, *owner, dir_fd=parent.fileno(), follow_symlinks=False)
            undo.pop_all()
    return made


def remove_node(inside: Inside, path: str, node: Node, made: list[str]) -> None:
    """The device is not at ``path`` any more, nor what was ``made`` for it. Who has it open keeps it. Right when done again.

    Raises:
        FailedPrecondition: something else is there.
        ShimError: the kernel refuses.
    """
    above, name = split(path)
    try:
        with suppress(FileNotFoundError), inside.open(above, os.O_PATH | os.O_DIRECTORY) as parent:
            found = os.stat(name, dir_fd=parent.fileno(), follow_symlinks=False)
            if (stat.S_IFMT(found.st_mode), found.st_rdev) != (
                _KINDS[node.kind],
                os.makedev(node.major, node.minor),
            ):
                raise FailedPrecondition(f"{path} of the container is another thing by now, it stays")
            os.unlink(name, dir_fd=parent.fileno())
        inside.run(lambda: inside.remove_directories(made))
    except OSError as error:
        raise from_os_error(error, f"device {path} of the container cannot be removed") from error
