"""Mount options as people and containerd write them, turned into what the kernel takes.

Pure. A word that means a flag sets or clears it, later words win; every other word belongs to the file system and is
passed on as it is. The words are those of mount(8) and of the runtime-spec.

Source: mount(8), "Filesystem-independent mount options"; runtime-spec config.md, "Linux mount options".
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.linux.mount_api import (
    MS_BIND,
    MS_DIRSYNC,
    MS_LAZYTIME,
    MS_MANDLOCK,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_SYNCHRONOUS,
    MS_UNBINDABLE,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PER_MOUNT_FLAGS", "MountOptions", "parse"]

# word: (flags it sets, flags it clears)
_FLAGS: dict[str, tuple[int, int]] = {
    "defaults": (0, 0),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "nosuid": (MS_NOSUID, 0),
    "suid": (0, MS_NOSUID),
    "nodev": (MS_NODEV, 0),
    "dev": (0, MS_NODEV),
    "noexec": (MS_NOEXEC, 0),
    "exec": (0, MS_NOEXEC),
    "sync": (MS_SYNCHRONOUS, 0),
    "async": (0, MS_SYNCHRONOUS),
    "dirsync": (MS_DIRSYNC, 0),
    "remount": (MS_REMOUNT, 0),
    "mand": (MS_MANDLOCK, 0),
    "nomand": (0, MS_MANDLOCK),
    "noatime": (MS_NOATIME, 0),
    "atime": (0, MS_NOATIME),
    "nodiratime": (MS_NODIRATIME, 0),
    "diratime": (0, MS_NODIRATIME),
    "relatime": (MS_RELATIME, 0),
    "norelatime": (0, MS_RELATIME),
    "strictatime": (MS_STRICTATIME, 0),
    "nostrictatime": (0, MS_STRICTATIME),
    "lazytime": (MS_LAZYTIME, 0),
    "nolazytime": (0, MS_LAZYTIME),
    "nosymfollow": (MS_NOSYMFOLLOW, 0),
    "symfollow": (0, MS_NOSYMFOLLOW),
    "bind": (MS_BIND, 0),
    "rbind": (MS_BIND | MS_REC, 0),
}

_PROPAGATION: dict[str, int] = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}

# The flags that belong to a mount rather than to its file system, so that a bind can have its own.
PER_MOUNT_FLAGS = (
    MS_RDONLY
    | MS_NOSUID
    | MS_NODEV
    | MS_NOEXEC
    | MS_NOATIME
    | MS_NODIRATIME
    | MS_RELATIME
    | MS_STRICTATIME
    | MS_NOSYMFOLLOW
)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """``flags`` for mount(2), those that were explicitly ``cleared``, MS_* of ``propagation``, and the rest.

    ``loop`` asks for a loop device, ``uidmap`` and ``gidmap`` for an id-mapped mount: work around the mount itself.
    """

    flags: int = 0
    cleared: int = 0
    propagation: int = 0
    data: tuple[str, ...] = ()
    loop: bool = False
    uidmap: str = ""
    gidmap: str = ""


def parse(options: Iterable[str]) -> MountOptions:
    """What ``options`` mean.

    Raises:
        OSError: EOPNOTSUPP, an option that cannot be honoured; to ignore it would mount something else.
    """
    flags = cleared = propagation = 0
    maps = {"uidmap": "", "gidmap": ""}
    data: list[str] = []
    words = tuple(options)
    for option in words:
        key, _, value = option.partition("=")
        if key == "loop" and value:
            raise OSError(
                errno.EOPNOTSUPP, f"the mount option {option!r} is not supported: 'loop' takes a free one"
            )
        if key in maps:
            maps[key] = value
        elif option in _FLAGS:
            sets, clears = _FLAGS[option]
            flags = flags & ~clears | sets
            cleared = cleared & ~sets | clears
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option]
        elif option and option != "loop":
            data.append(option)
    return MountOptions(flags, cleared, propagation, tuple(data), loop="loop" in words, **maps)
