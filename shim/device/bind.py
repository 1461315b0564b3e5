"""A directory or file of the host, mounted into a running container.

Source: open_tree(2), move_mount(2), mount_setattr(2).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from shim.device.inside import split
from shim.errors import from_os_error
from shim.linux.mount_api import (
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    UMOUNT_NOFOLLOW,
    mount_setattr,
    move_mount,
    open_tree,
    umount2,
)

if TYPE_CHECKING:
    from shim.device.inside import Inside
    from shim.linux.fd import OwnedFd

__all__ = ["bind", "unbind"]


def bind(inside: Inside, source: str, target: str, *, read_only: bool, devices: bool = False) -> list[str]:
    """The directory, file or (``devices``) device node ``source`` of the host is at ``target`` in the container.

    Every process in the container has it at once. What the host mounts below ``source`` later stays out of it. Returns
    what was made for it, the uppermost first, for ``unbind``.

    Raises:
        NotFound: ``source`` does not exist.
        InvalidArgument: ``target`` is no path, or a directory where a file is mounted or the other way round.
        ShimError: the kernel refuses; nothing is left.
    """
    try:
        with open_tree(source, recursive=True) as tree:
            # Set user id bits and device nodes of the host's are for the host's users.
            attributes = MOUNT_ATTR_NOSUID | (0 if devices else MOUNT_ATTR_NODEV)
            mount_setattr(tree.fileno(), attributes | (MOUNT_ATTR_RDONLY if read_only else 0), recursive=True)
            is_directory = stat.S_ISDIR(os.fstat(tree.fileno()).st_mode)
            return inside.run(lambda: _attach(inside, tree, target, is_directory=is_directory))
    except OSError as error:
        raise from_os_error(error, f"{source} cannot be mounted at {target} of the container") from error


def _attach(inside: Inside, tree: OwnedFd, target: str, *, is_directory: bool) -> list[str]:
    with ExitStack() as undo:
        made = inside.make_parents(target)
        undo.callback(inside.remove_directories, made)
        if _make_place(inside, target, is_directory=is_directory):
            undo.callback(_remove_place, inside, target)
            made = [*made, target]
        with inside.open(target) as place:
            move_mount(tree.fileno(), place.fileno())
        undo.pop_all()
    return made


def _make_place(inside: Inside, target: str, *, is_directory: bool) -> bool:
    above, name = split(target)
    with inside.open(above, os.O_PATH | os.O_DIRECTORY) as parent:
        try:
            if is_directory:
                os.mkdir(name, 0o755, dir_fd=parent.fileno())
            else:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=parent.fileno()))
        except FileExistsError:
            return False
    return True


def _remove_place(inside: Inside, target: str) -> None:
    above, name = split(target)
    with inside.open(above, os.O_PATH | os.O_DIRECTORY) as parent:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent.fileno(), follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=parent.fileno())
        else:
            os.unlink(name, dir_fd=parent.fileno())


def unbind(inside: Inside, target: str, made: list[str]) -> None:
    """What was mounted last at ``target`` is not there any more, nor what was ``made`` for it.

    Files that are open stay open and usable. Right when it is done again.

    Raises:
        ShimError: the kernel refuses.
    """
    try:
        inside.run(lambda: _detach(inside, target, made))
    except OSError as error:
        raise from_os_error(error, f"{target} of the container cannot be unmounted") from error


def _detach(inside: Inside, target: str, made: list[str]) -> None:
    above, name = split(target)
    with suppress(FileNotFoundError), inside.open(above, os.O_PATH | os.O_DIRECTORY) as parent:
        # umount2 knows paths only; this thread's working directory is its own.
        os.fchdir(parent.fileno())
        try:
            umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.EINVAL:  # no mount point: gone already
                raise
        if target in made:
            _remove_place(inside, target)
    inside.remove_directories([path for path in made if path != target])
