"""Which kind of file system something lies on.

Man page: statfs(2); the numbers are those of linux/magic.h.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from shim.linux.libc import bind, encode, fail, get_errno

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

__all__ = ["in_memory"]

TMPFS_MAGIC = 0x01021994
RAMFS_MAGIC = 0x858458F6

# struct statfs is 120 bytes on 64 bit, and its first member, a long, is f_type.
_STATFS_LONGS = 16

_statfs = bind("statfs", ctypes.c_char_p, ctypes.c_void_p)


def in_memory(path: StrOrBytesPath) -> bool:
    """Whether ``path`` lies in memory alone, so that no call on it waits for a disk.

    Raises:
        OSError: it does not exist.
    """
    buffer = (ctypes.c_long * _STATFS_LONGS)()
    if _statfs(encode(path), ctypes.addressof(buffer)) < 0:
        fail(get_errno(), path)
    return buffer[0] & 0xFFFFFFFF in {TMPFS_MAGIC, RAMFS_MAGIC}
