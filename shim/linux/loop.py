"""Loop devices: a file as a block device, for as long as somebody uses it.

Source: loop(4); include/uapi/linux/loop.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack
from ctypes import Structure, c_char, c_uint8, c_uint32, c_uint64
from typing import TYPE_CHECKING

from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

__all__ = ["attach_loop"]

LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_READ_ONLY = 1
LO_FLAGS_AUTOCLEAR = 4

_ATTEMPTS = 64


class _LoopInfo64(Structure):
    _fields_ = (
        ("lo_device", c_uint64),
        ("lo_inode", c_uint64),
        ("lo_rdevice", c_uint64),
        ("lo_offset", c_uint64),
        ("lo_sizelimit", c_uint64),
        ("lo_number", c_uint32),
        ("lo_encrypt_type", c_uint32),
        ("lo_encrypt_key_size", c_uint32),
        ("lo_flags", c_uint32),
        ("lo_file_name", c_char * 64),
        ("lo_crypt_name", c_char * 64),
        ("lo_encrypt_key", c_uint8 * 32),
        ("lo_init", c_uint64 * 2),
    )


class _LoopConfig(Structure):
    _fields_ = (
        ("fd", c_uint32),
        ("block_size", c_uint32),
        ("info", _LoopInfo64),
        ("__reserved", c_uint64 * 8),
    )


def attach_loop(file: StrOrBytesPath, *, read_only: bool) -> tuple[str, OwnedFd]:
    """The path of a loop device for ``file``, and a descriptor of it, which the caller owns.

    The kernel frees the device (LO_FLAGS_AUTOCLEAR) when its last user goes: that descriptor, or the mount made of it
    meanwhile. Nothing has to be undone, not even after a crash.

    Raises:
        OSError: with the file, or the device that could not be had; ENOENT for /dev/loop-control, no loop driver.
    """
    with ExitStack() as stack:
        backing = os.open(file, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        stack.callback(os.close, backing)
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, control)
        for _ in range(_ATTEMPTS):
            path = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            if (device := _configured(path, backing, os.fsencode(file), read_only=read_only)) is not None:
                return path, device
    raise OSError(errno.EBUSY, "every free loop device was taken by somebody else", os.fsdecode(file))


def _configured(path: str, backing: int, name: bytes, *, read_only: bool) -> OwnedFd | None:
    """The device at ``path`` with ``backing`` behind it; None when somebody else was faster."""
    device = OwnedFd(os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC))
    flags = LO_FLAGS_AUTOCLEAR | (LO_FLAGS_READ_ONLY if read_only else 0)
    config = _LoopConfig(fd=backing, info=_LoopInfo64(lo_flags=flags, lo_file_name=name[:63]))
    try:
        fcntl.ioctl(device.fileno(), LOOP_CONFIGURE, config)
    except OSError as error:
        device.close()
        if error.errno == errno.EBUSY:
            return None
        raise OSError(error.errno, error.strerror, path) from error
    return device
