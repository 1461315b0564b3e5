"""The mount system calls and the header's constants, nothing else.

Two generations: mount(2), whose data is one page of text at most, and fsopen(2) and its kin, which take one option a
call. Policy is in ``mounts``.

Source: mount(2), umount2(2), include/uapi/linux/mount.h.
"""

from __future__ import annotations

import os
from ctypes import Structure, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulong, c_void_p, sizeof
from typing import TYPE_CHECKING

from shim.linux.fd import OwnedFd
from shim.linux.libc import bind, bind_syscall, encode, fail, get_errno

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

__all__ = ["fsconfig", "fsmount", "fsopen", "mount", "mount_setattr", "move_mount", "open_tree", "umount2"]

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000


class _MountAttr(Structure):
    _fields_ = (
        ("attr_set", c_uint64),
        ("attr_clr", c_uint64),
        ("propagation", c_uint64),
        ("userns_fd", c_uint64),
    )


_mount = bind("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = bind("umount2", c_char_p, c_int)
_open_tree = bind_syscall("open_tree", 428, c_int, c_char_p, c_uint)
_mount_setattr = bind_syscall("mount_setattr", 442, c_int, c_char_p, c_uint, c_void_p, c_size_t)
_move_mount = bind_syscall("move_mount", 429, c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = bind_syscall("fsopen", 430, c_char_p, c_uint)
_fsconfig = bind_syscall("fsconfig", 431, c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = bind_syscall("fsmount", 432, c_int, c_uint, c_uint)


def mount(
    source: StrOrBytesPath, target: StrOrBytesPath, filesystemtype: str, mountflags: int, data: str = ""
) -> None:
    """Mounted, or changed, as ``mountflags`` say; the kernel silently cuts ``data`` at a page, which callers check.

    Raises:
        OSError: with ``target`` as its filename.
    """
    text = encode(data) or None
    if _mount(encode(source), encode(target), encode(filesystemtype), mountflags, text) != 0:
        fail(get_errno(), target)


def umount2(target: StrOrBytesPath, flags: int) -> None:
    """What was mounted last at ``target`` is not there any more.

    Raises:
        OSError: EINVAL, ``target`` is no mount point (or a locked one); EBUSY, something uses it.
    """
    if _umount2(encode(target), flags) != 0:
        fail(get_errno(), target)


def fsopen(fsname: str) -> OwnedFd:
    """A file system that is yet to be configured and created.

    Raises:
        OSError: ENODEV, the kernel has no such file system; ENOSYS, it is older than 5.2.
    """
    fd = _fsopen(encode(fsname), FSOPEN_CLOEXEC)
    if fd < 0:
        fail(get_errno(), fsname)
    return OwnedFd(fd)


def fsconfig(fd: int, cmd: int, key: str | None, value: str | None) -> None:
    """One thing is configured, or done; the kernel takes at most 255 bytes as ``value``.

    Raises:
        OSError: EINVAL, the file system knows no such key or refuses the value.
    """
    key_text = None if key is None else encode(key)
    value_text = None if value is None else encode(value)
    if _fsconfig(fd, cmd, key_text, value_text, 0) != 0:
        fail(get_errno(), key)


def fsmount(fd: int, attr_flags: int) -> OwnedFd:
    """The created file system, mounted nowhere yet; unmounted when the last descriptor goes."""
    mount_fd = _fsmount(fd, FSMOUNT_CLOEXEC, attr_flags)
    if mount_fd < 0:
        fail(get_errno())
    return OwnedFd(mount_fd)


def open_tree(path: StrOrBytesPath, *, recursive: bool) -> OwnedFd:
    """A clone of the mount at ``path``, with those below it if ``recursive``, attached nowhere yet; the caller owns it.

    Raises:
        OSError: with ``path``; ENOSYS, the kernel is older than 5.2.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    fd = _open_tree(AT_FDCWD, encode(path), flags)
    if fd < 0:
        fail(get_errno(), path)
    return OwnedFd(fd)


def mount_setattr(mount_fd: int, attr_set: int, userns_fd: int = 0, *, recursive: bool) -> None:
    """The mount of ``mount_fd`` has the attributes ``attr_set``; ``userns_fd`` is for MOUNT_ATTR_IDMAP.

    Raises:
        OSError: EINVAL, its file system cannot, or the mount is attached or mapped; ENOSYS, the kernel is older than 5.12.
    """
    attr = _MountAttr(attr_set=attr_set, userns_fd=userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    if _mount_setattr(mount_fd, b"", flags, byref(attr), sizeof(attr)) != 0:
        fail(get_errno())


def move_mount(from_fd: int, to_fd: int) -> None:
    """The mount of ``from_fd`` is attached where ``to_fd`` stands."""
    if _move_mount(from_fd, b"", to_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0:
        fail(get_errno())
