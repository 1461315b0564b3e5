"""POSIX access control lists of directories: who may use what is made in them later.

The C library has no call for them; the kernel takes them as an extended attribute of a fixed layout.

Source: acl(5); linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import StrPath

__all__ = ["ACL_READ", "ACL_WRITE", "default_acl", "set_default_acl"]

ACL_READ = 4
ACL_WRITE = 2

_XATTR_DEFAULT = "system.posix_acl_default"
_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_UNDEFINED_ID = 0xFFFFFFFF


def default_acl(uid: int, permissions: int) -> bytes:
    """A list that gives owner and group ``permissions``, ``uid`` too, and nobody else any, as the kernel reads it."""
    entries = (
        (_USER_OBJ, permissions, _UNDEFINED_ID),
        (_USER, permissions, uid),
        (_GROUP_OBJ, permissions, _UNDEFINED_ID),
        (_MASK, permissions, _UNDEFINED_ID),
        (_OTHER, 0, _UNDEFINED_ID),
    )
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def set_default_acl(path: StrPath, uid: int, permissions: int) -> None:
    """What is made in the directory ``path`` from now on is also ``uid``'s to use, as ``permissions`` say.

    The group bits of the mode that a file is made with, or gets later, are the most that ``uid`` has of them (its mask).

    Raises:
        OSError: EOPNOTSUPP, the file system has no access control lists.
    """
    os.setxattr(path, _XATTR_DEFAULT, default_acl(uid, permissions))
