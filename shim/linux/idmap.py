"""Id-mapped mounts: a tree whose files belong to other users than on disk, only where it is seen through that mount.

The kernel maps ids of a mount that is not attached anywhere yet. So what is to be mapped is cloned, mapped and attached.
Lower directories of an overlay are cloned into a directory of our own; the overlay keeps them when that goes away.

Source: mount_setattr(2), "ID-mapped mounts" (Linux 5.12; as overlay layers 5.19); containerd core/mount.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from shim.linux.mount_api import (
    MNT_DETACH,
    MOUNT_ATTR_IDMAP,
    UMOUNT_NOFOLLOW,
    mount_setattr,
    move_mount,
    open_tree,
    umount2,
)
from shim.linux.overlay import split_lowerdir
from shim.linux.user_namespace import IdRange, user_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shim.linux.fd import OwnedFd

__all__ = ["idmapped_lowerdirs", "map_mount", "mapping", "parse_ranges"]

_RANGE = re.compile(r"(\d{1,10}):(\d{1,10}):(\d{1,10})")
_REFUSED = "cannot be id-mapped: its file system does not support it, or it is id-mapped already"


def parse_ranges(text: str) -> list[IdRange]:
    """``inside:outside:size``, one or more of them with commas between.

    Raises:
        OSError: EINVAL, it is not that.
    """
    found = [_RANGE.fullmatch(word) for word in text.split(",")]
    if not all(found):
        raise OSError(errno.EINVAL, f"the id map {text!r} is not inside:outside:size")
    return [IdRange(*map(int, match.groups())) for match in found if match]


def mapping(uidmap: str, gidmap: str) -> OwnedFd:
    """The user namespace of these two options; the caller owns it.

    Raises:
        OSError: one is missing or not valid, or there can be no such namespace.
    """
    if not (uidmap and gidmap):
        raise OSError(errno.EINVAL, "an id-mapped mount needs both uidmap= and gidmap=")
    return user_namespace(parse_ranges(uidmap), parse_ranges(gidmap))


def map_mount(target: str, target_fd: int, userns: OwnedFd, *, recursive: bool) -> None:
    """What is mounted at ``target`` is replaced by the same with mapped ids; ``target_fd`` is the place below it.

    Raises:
        OSError: it cannot be mapped; it is still mounted as it was.
    """
    with _mapped_clone(target, userns, recursive=recursive) as clone:
        umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW)
        move_mount(clone.fileno(), target_fd)


def _mapped_clone(source: str, userns: OwnedFd, *, recursive: bool) -> OwnedFd:
    clone = open_tree(source, recursive=recursive)
    try:
        mount_setattr(clone.fileno(), MOUNT_ATTR_IDMAP, userns.fileno(), recursive=recursive)
    except OSError as error:
        clone.close()
        text = f"{source} {_REFUSED}" if error.errno == errno.EINVAL else error.strerror
        raise OSError(error.errno, text) from error
    return clone


@contextmanager
def idmapped_lowerdirs(options: Sequence[str], userns: OwnedFd) -> Iterator[list[str]]:
    """The overlay ``options`` with mapped clones for lower directories, which are there inside this block only."""
    with ExitStack() as undo:
        place = f"/run/ocishim-idmap-{os.urandom(8).hex()}"
        os.mkdir(place, 0o700)
        undo.callback(os.rmdir, place)
        changed = []
        for option in options:
            key, _, value = option.partition("=")
            if key == "lowerdir":
                lowers = [re.sub(r"\\(.)", r"\1", lower) for lower in split_lowerdir(value)]
                mapped = [_attach(lower, f"{place}/{i}", userns, undo) for i, lower in enumerate(lowers)]
                changed.append(f"lowerdir={':'.join(mapped)}")
            else:
                changed.append(option)
        yield changed


def _attach(lower: str, place: str, userns: OwnedFd, undo: ExitStack) -> str:
    os.mkdir(place, 0o700)
    undo.callback(os.rmdir, place)
    with _mapped_clone(lower, userns, recursive=False) as clone:
        place_fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            move_mount(clone.fileno(), place_fd)
        finally:
            os.close(place_fd)
    undo.callback(umount2, place, MNT_DETACH | UMOUNT_NOFOLLOW)
    return place
