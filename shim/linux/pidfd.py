"""Processes as descriptors: a pid is handed out again, a pidfd means the same process for ever.

A pidfd becomes readable when its process ends (it is a zombie then, until somebody reaps it). Since Linux 6.15 it
also tells the exit status after the process was reaped, to anybody who holds it, parent or not.

Source: pidfd_open(2), pidfd_send_signal(2), include/uapi/linux/pidfd.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct

from shim.linux.fd import OwnedFd

__all__ = ["exit_status_of", "pidfd_open", "pidfd_send_signal"]

PIDFD_INFO_EXIT = 1 << 3

# struct pidfd_info as of its first version, 64 bytes: mask, cgroupid, pid, tgid, ppid, eight ids, exit_code.
# The size is part of the ioctl's number; kernels that know more fields take the shorter structure too.
_PIDFD_INFO = struct.Struct("=QQ3I8Ii")

_IOC_READ_WRITE = 3
_PIDFS_IOCTL_MAGIC = 0xFF
PIDFD_GET_INFO = (_IOC_READ_WRITE << 30) | (_PIDFD_INFO.size << 16) | (_PIDFS_IOCTL_MAGIC << 8) | 11

# No ioctls on pidfds before 6.13; ESRCH: reaped, on a kernel that keeps no status; EINVAL: argument unknown.
_UNSUPPORTED = frozenset({errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ESRCH})


def pidfd_open(pid: int) -> OwnedFd:
    """A CLOEXEC pidfd of ``pid``, which may already be a zombie.

    Raises:
        ProcessLookupError: there is no such process, or it was reaped.
    """
    return OwnedFd(os.pidfd_open(pid))


def pidfd_send_signal(fd: int, sig: int) -> None:
    """The process has got ``sig``; 0 only checks.

    Raises:
        ProcessLookupError: it has ended and was reaped.
    """
    signal.pidfd_send_signal(fd, sig)


def exit_status_of(fd: int) -> int | None:
    """The wait status (as waitpid gives it) of the ended and reaped process behind ``fd``.

    None while it is alive or not yet reaped, and where the kernel (before 6.15) cannot tell.
    """
    request = _PIDFD_INFO.pack(PIDFD_INFO_EXIT, *[0] * 13)
    try:
        answer = _PIDFD_INFO.unpack(fcntl.ioctl(fd, PIDFD_GET_INFO, request))
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    mask, exit_code = answer[0], answer[-1]
    return int(exit_code) if mask & PIDFD_INFO_EXIT else None
