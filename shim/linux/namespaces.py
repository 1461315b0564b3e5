"""Make and enter namespaces, in a thread that nobody else uses.

``unshare`` and ``setns`` change the calling thread alone (but for user namespaces, which need a process of one thread,
and mount namespaces, which a thread can only have without sharing its directory with the others). A process that such a
thread starts is in the thread's namespaces; ``apart`` gives it one that ends right after.

Man pages: unshare(2), setns(2), namespaces(7), ioctl_ns(2).
"""

from __future__ import annotations

import fcntl
import os
from ctypes import c_int
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar

from shim.linux.fd import OwnedFd
from shim.linux.libc import bind, fail, get_errno

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CLONE_FS",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUTS",
    "apart",
    "is_initial_network",
    "owning_user_namespace",
    "setns",
    "unshare",
]

CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

_NS_GET_USERNS: Final = 0xB701  # _IO(0xb7, 1)

_INITIAL_ONLY: Final = "/proc/sys/net/core/dev_weight"

_T = TypeVar("_T")

_unshare = bind("unshare", c_int)
_setns = bind("setns", c_int, c_int)


def unshare(flags: int) -> None:
    """The thread has new namespaces; with CLONE_NEWPID, its next child is the first process of one."""
    if _unshare(flags) < 0:
        fail(get_errno())


def setns(fd: int, nstype: int) -> None:
    """The thread is in the namespace that ``fd`` (not owned) shows, if that is of ``nstype``."""
    if _setns(fd, nstype) < 0:
        fail(get_errno())


def owning_user_namespace(fd: int) -> OwnedFd:
    """The user namespace in which a process needs privileges over the namespace ``fd`` (not owned); the caller owns it.

    Raises:
        OSError: EPERM, it is none of ours nor below ours.
    """
    return OwnedFd(fcntl.ioctl(fd, _NS_GET_USERNS))


def apart(function: Callable[[], _T]) -> _T:
    """What ``function`` returns or raises in a thread of its own, which has ended then."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again, in the thread that asked
            errors.append(error)

    thread = Thread(target=run, name="apart")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def is_initial_network(path: str) -> bool:
    """Whether the network namespace at ``path`` is the one that the kernel came up with; needs root.

    Nothing says so outright. /proc/sys/net shows each process what its namespace has, and some settings only the first has.

    Raises:
        OSError: ``path`` is no network namespace that we may enter.
    """

    def look() -> bool:
        with OwnedFd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as fd:
            setns(fd.fileno(), CLONE_NEWNET)
        return os.path.exists(_INITIAL_ONLY)

    return apart(look)
