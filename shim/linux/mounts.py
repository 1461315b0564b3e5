"""Mounting a list of file systems below a root, and taking a tree of mounts away again.

Both may block for as long as the storage does: they belong in a thread of their own, not in an event loop.

Source: mount(2), umount2(2); containerd core/mount for what Create's rootfs list means.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shim.linux import mount_options, mountinfo
from shim.linux.idmap import idmapped_lowerdirs, map_mount, mapping
from shim.linux.loop import attach_loop
from shim.linux.mount_api import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    UMOUNT_NOFOLLOW,
    mount,
    umount2,
)
from shim.linux.mount_helper import has_helper, mount_with_helper
from shim.linux.overlay import mount_overlay
from shim.linux.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shim.linux.mount_options import MountOptions

__all__ = ["Mount", "mount", "mount_all", "umount2", "unmount_tree"]


class Mount(NamedTuple):
    """One entry of Create's rootfs list; ``target`` is below the root, empty for the root itself."""

    type: str
    source: str
    target: str
    options: tuple[str, ...] = ()


def _parse(entry: Mount) -> MountOptions:
    return mount_options.parse([*(["bind"] if entry.type == "bind" else []), *entry.options])


def _remount_bind(target: str, options: MountOptions) -> None:
    """The bind at ``target`` has the flags that were asked for.

    The kernel ignores all flags but MS_REC when it makes a bind: a read-only bind is made writable and then changed.
    What the bind inherited from its source is kept, or a remount for "ro" would bring "suid" back.
    """
    # For these four, statvfs has the values of mount(2).
    inherited = os.statvfs(target).f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    wanted = (inherited | options.flags & mount_options.PER_MOUNT_FLAGS) & ~options.cleared
    mount("", target, "", wanted | MS_BIND | MS_REMOUNT)


def _mount_file_system(entry: Mount, target_fd: int, options: MountOptions) -> None:
    if not options.loop:
        _mount_source(entry, target_fd, options)
        return
    path, device = attach_loop(entry.source, read_only=bool(options.flags & MS_RDONLY))
    with device:  # the mount keeps it from here on
        _mount_source(entry._replace(source=path), target_fd, options)


def _mount_idmapped(entry: Mount, target_fd: int, target: str, options: MountOptions) -> None:
    with mapping(options.uidmap, options.gidmap) as userns:
        if entry.type == "overlay":
            with idmapped_lowerdirs(options.data, userns) as data:
                _mount_file_system(entry, target_fd, replace(options, data=tuple(data)))
            return
        _mount_file_system(entry, target_fd, options)
        try:
            map_mount(target, target_fd, userns, recursive=bool(options.flags & MS_REC))
        except OSError:
            umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW)
            raise


def _mount_source(entry: Mount, target_fd: int, options: MountOptions) -> None:
    data = ",".join(options.data)
    if len(os.fsencode(data)) < os.sysconf("SC_PAGE_SIZE"):
        mount(entry.source, f"/proc/self/fd/{target_fd}", entry.type, options.flags, data)
    elif entry.type == "overlay":
        mount_overlay(target_fd, options.flags, options.data)
    else:
        # The kernel would cut it at the page's end, wherever that is.
        raise OSError(errno.E2BIG, f"the mount options have {len(data)} characters, more than fit a page")


def _adjust(target: str, options: MountOptions) -> None:
    """What takes a second and a third call: the kernel changes one kind of thing at a time."""
    if options.propagation:
        mount("", target, "", options.propagation)
    changes = options.flags & mount_options.PER_MOUNT_FLAGS | options.cleared
    if options.flags & MS_BIND and not options.flags & MS_REMOUNT and changes:
        _remount_bind(target, options)


def _mount_one(entry: Mount, rootfs: str, undo: ExitStack) -> None:
    if has_helper(entry.type):
        _mount_by_helper(entry, rootfs, undo)
        return
    options = _parse(entry)
    with open_in_root(rootfs, entry.target or ".", os.O_PATH) as fd:
        # Resolved once: both the mount and its undoing mean this place, whatever happens to links on the way.
        target = str(Path(f"/proc/self/fd/{fd.fileno()}").readlink())
        if options.uidmap or options.gidmap:
            _mount_idmapped(entry, fd.fileno(), target, options)
        else:
            _mount_file_system(entry, fd.fileno(), options)
    if not options.flags & MS_REMOUNT:
        undo.callback(umount2, target, MNT_DETACH | UMOUNT_NOFOLLOW)
    _adjust(target, options)


def _mount_by_helper(entry: Mount, rootfs: str, undo: ExitStack) -> None:
    # A program can be told a path alone: whoever may change the tree meanwhile chooses where it mounts.
    with open_in_root(rootfs, entry.target or ".", os.O_PATH) as fd:
        target = str(Path(f"/proc/self/fd/{fd.fileno()}").readlink())
    mount_with_helper(entry.source, target, entry.type, entry.options)
    undo.callback(umount2, target, MNT_DETACH | UMOUNT_NOFOLLOW)


def mount_all(mounts: Iterable[Mount], rootfs: str) -> None:
    """All of ``mounts`` are mounted in this order below ``rootfs``, or none.

    A target is looked up as if ``rootfs`` were ``/``, on what the entries before it have mounted, and must exist.

    Raises:
        OSError: which mount failed and why, with its target.
    """
    with ExitStack() as undo:
        for entry in mounts:
            try:
                _mount_one(entry, rootfs, undo)
            except OSError as error:
                what = f"cannot mount {entry.type} {entry.source}: {error.strerror}"
                raise OSError(error.errno, what, str(Path(rootfs, entry.target.lstrip("/")))) from error
        undo.pop_all()


# Seconds between attempts at what is busy: an init that has just ended may hold its root for a moment yet.
_PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)

# Gone meanwhile, hidden by a mount above it that goes first, or in use: the next look at mountinfo tells.
_LOOK_AGAIN = frozenset({errno.EINVAL, errno.ENOENT, errno.EBUSY})


def _mount_points(top: str) -> list[str]:
    """The mount points at and below ``top``, what was mounted last first; one that is stacked occurs more than once."""
    below = top.rstrip("/") + "/"
    points = [entry.mount_point for entry in mountinfo.read()]
    return [point for point in reversed(points) if point == top or point.startswith(below)]


def _unmount_pass(points: Iterable[str], flags: int) -> bool:
    """Whether at least one of ``points`` could be unmounted."""
    progress = False
    for point in points:
        try:
            umount2(point, flags | UMOUNT_NOFOLLOW)
            progress = True
        except OSError as error:
            if error.errno not in _LOOK_AGAIN:
                raise
    return progress


def unmount_tree(path: str) -> list[str]:
    """Nothing is mounted at or below ``path`` any more; returns the mount points that were still in use.

    Those were detached (MNT_DETACH): nobody can reach them by path, and they end when their last user does. Nothing
    mounted, or no such path, is success. Takes 0.4 s at most where something is busy.

    Raises:
        OSError: a mount could not even be detached.
    """
    # Not resolved itself: a link is no mount point, and what it points to is somebody else's.
    top = str(Path(path).parent.resolve() / Path(path).name)
    for pause in _PAUSES:
        time.sleep(pause)
        while (points := _mount_points(top)) and _unmount_pass(points, 0):
            pass
        if not points:
            return []
    in_use = points
    while (points := _mount_points(top)) and _unmount_pass(points, MNT_DETACH):
        pass
    if points:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), points[0])
    return in_use
