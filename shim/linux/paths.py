"""Paths inside a tree that somebody else made: a container's root filesystem may hold any symbolic link.

Source: openat2(2), RESOLVE_IN_ROOT (Linux 5.6).
"""

from __future__ import annotations

import errno
import os
from ctypes import Structure, byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p, sizeof
from typing import TYPE_CHECKING

from shim.linux.fd import OwnedFd
from shim.linux.libc import bind_syscall, encode, get_errno

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

__all__ = ["open_in_root", "open_in_root_fd"]

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10


class _OpenHow(Structure):
    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


_openat2 = bind_syscall("openat2", 437, c_int, c_char_p, c_void_p, c_size_t)

_ATTEMPTS = 32


def open_in_root(root: StrOrBytesPath, path: str, flags: int = os.O_RDONLY) -> OwnedFd:
    """``path``, opened as a process would see it whose root directory is ``root``; CLOEXEC.

    Links and ``..`` cannot lead out of ``root``, whoever changes the tree meanwhile.

    Raises:
        OSError: as open(2), with ``path``; EAGAIN, something kept renaming directories on the way.
    """
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_in_root_fd(root_fd, path, flags)
    finally:
        os.close(root_fd)


def open_in_root_fd(root_fd: int, path: str, flags: int = os.O_RDONLY) -> OwnedFd:
    """As ``open_in_root``, below the directory that ``root_fd`` (not owned) stands for."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    raw = encode(path)
    for _ in range(_ATTEMPTS):
        fd = _openat2(root_fd, raw, byref(how), sizeof(how))
        if fd >= 0:
            return OwnedFd(fd)
        error = get_errno()
        if error not in {errno.EAGAIN, errno.EINTR}:
            break
    raise OSError(error, os.strerror(error), path)
