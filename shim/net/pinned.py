"""A network namespace that has a file, and so outlives whoever made it: what ``ip netns`` does.

Source: ip-netns(8), network_namespaces(7); mount(2) of a file of /proc/<pid>/ns.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from shim.errors import from_os_error
from shim.linux.mount_api import MNT_DETACH, MS_BIND, mount, umount2
from shim.linux.namespaces import CLONE_NEWNET, apart, unshare

__all__ = ["pin", "unpin"]


def pin(path: str) -> None:
    """A new network namespace has the file ``path``; its loopback is down.

    Raises:
        AlreadyExists: there is something at ``path``.
        ShimError: the kernel refuses; nothing is left.
    """

    def make() -> None:
        unshare(CLONE_NEWNET)
        mount("/proc/thread-self/ns/net", path, "", MS_BIND)

    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o600))
        try:
            apart(make)
        except BaseException:
            os.unlink(path)
            raise
    except OSError as error:
        raise from_os_error(error, f"network namespace {path} cannot be made") from error


def unpin(path: str) -> None:
    """The file is gone, and the namespace with its interfaces as soon as nobody is in it. Right when it is done again.

    Raises:
        ShimError: the kernel refuses.
    """
    try:
        try:
            umount2(path, MNT_DETACH)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOENT}:  # not mounted any more
                raise
        with suppress(FileNotFoundError):
            os.unlink(path)
    except OSError as error:
        raise from_os_error(error, f"network namespace {path} cannot be removed") from error
