"""overlay file systems with more lower directories than fit the page of text that mount(2) takes.

Two ways, in this order:
- fsopen(2) takes one ``lowerdir+`` a call (Linux 6.8);
- mount(2) with lower directories relative to their common parent, from a thread that has a working directory of its
  own (unshare(CLONE_FS)): the process's must not move under the feet of everybody else.

Source: Documentation/filesystems/overlayfs.rst, "Multiple lower layers"; unshare(2).
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from shim.linux.mount_api import (
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_STRICTATIME,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_RDONLY,
    MS_RELATIME,
    MS_STRICTATIME,
    fsconfig,
    fsmount,
    fsopen,
    mount,
    move_mount,
)
from shim.linux.namespaces import CLONE_FS, apart, unshare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["mount_overlay", "relative_lowerdirs", "split_lowerdir"]

# The old flags that have a name in the new interface; RDONLY, NOSUID, NODEV and NOEXEC even have the same value.
_SAME = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
_ATTRIBUTES = {
    MS_NOATIME: MOUNT_ATTR_NOATIME,
    MS_NODIRATIME: MOUNT_ATTR_NODIRATIME,
    MS_STRICTATIME: MOUNT_ATTR_STRICTATIME,
    MS_NOSYMFOLLOW: MOUNT_ATTR_NOSYMFOLLOW,
    MS_RELATIME: 0,
}

# A kernel without the interface, a sandbox that forbids it, an overlay without ``lowerdir+``, a value beyond the 255
# bytes that fsconfig takes.
_TRY_THE_OLD_WAY = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP})


def split_lowerdir(value: str) -> list[str]:
    r"""The directories of a ``lowerdir=`` value, still escaped: ``\:`` is a colon of a name."""
    return re.findall(r"(?:\\.|[^:\\])+", value)


def _unescaped(path: str) -> str:
    return re.sub(r"\\(.)", r"\1", path)


def relative_lowerdirs(lowers: Sequence[str]) -> tuple[str, str]:
    """The common parent of ``lowers``, not escaped, and the ``lowerdir=`` value relative to it."""
    common = os.path.commonpath(lowers)
    return _unescaped(common), ":".join(os.path.relpath(lower, common) for lower in lowers)


def _configuration(
    lowers: Sequence[str], options: Sequence[str], flags: int
) -> list[tuple[int, str, str | None]]:
    """The fsconfig calls that mean what the options mean."""
    calls: list[tuple[int, str, str | None]] = [
        (FSCONFIG_SET_STRING, "lowerdir+", _unescaped(lower)) for lower in lowers
    ]
    for option in options:
        key, assigned, value = option.partition("=")
        calls.append(
            (FSCONFIG_SET_STRING, key, _unescaped(value)) if assigned else (FSCONFIG_SET_FLAG, key, None)
        )
    if flags & MS_RDONLY:
        calls.append((FSCONFIG_SET_FLAG, "ro", None))
    return calls


def _mount_piecewise(target_fd: int, flags: int, lowers: Sequence[str], options: Sequence[str]) -> None:
    attributes = flags & _SAME
    for flag, attribute in _ATTRIBUTES.items():
        attributes |= attribute if flags & flag else 0
    with fsopen("overlay") as fs:
        for cmd, key, value in _configuration(lowers, options, flags):
            fsconfig(fs.fileno(), cmd, key, value)
        fsconfig(fs.fileno(), FSCONFIG_CMD_CREATE, None, None)
        with fsmount(fs.fileno(), attributes) as mounted:
            move_mount(mounted.fileno(), target_fd)


def _in_directory(directory: str, action: Callable[[], None]) -> None:
    """``action`` has run with ``directory`` as working directory; nobody else's has changed."""

    def run() -> None:
        unshare(CLONE_FS)
        os.chdir(directory)
        action()

    apart(run)


def _mount_relative(target_fd: int, flags: int, lowers: Sequence[str], options: Sequence[str]) -> None:
    directory, lowerdir = relative_lowerdirs(lowers)
    data = ",".join([f"lowerdir={lowerdir}", *options])
    if len(os.fsencode(data)) >= os.sysconf("SC_PAGE_SIZE"):
        raise OSError(
            errno.E2BIG, f"the options of an overlay of {len(lowers)} lower directories are too long"
        )
    # /proc/self is the process, whose descriptors the thread shares.
    target = f"/proc/self/fd/{target_fd}"
    _in_directory(directory, lambda: mount("overlay", target, "overlay", flags, data))


def mount_overlay(target_fd: int, flags: int, options: Sequence[str]) -> None:
    """An overlay of any number of lower directories is mounted on the directory of ``target_fd`` (borrowed).

    Raises:
        OSError: the kernel refused it; E2BIG, it cannot be expressed.
    """
    lowerdir = next((option for option in options if option.startswith("lowerdir=")), "").partition("=")[2]
    if not lowerdir or "::" in lowerdir:
        raise OSError(errno.EOPNOTSUPP, "a long overlay needs plain lower directories (no data-only ones)")
    lowers = split_lowerdir(lowerdir)
    rest = [option for option in options if not option.startswith("lowerdir=")]
    try:
        _mount_piecewise(target_fd, flags, lowers, rest)
    except OSError as error:
        if error.errno not in _TRY_THE_OLD_WAY:
            raise
        _mount_relative(target_fd, flags, lowers, rest)
