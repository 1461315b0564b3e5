"""A root directory with nothing of the host in it, for a process into which strangers can see by /proc/PID/root.

chroot(2) would not do: who comes to a directory of the host that way goes on to its parents.

Man pages: pivot_root(2), mount_namespaces(7), mount_setattr(2); Linux 5.12.
"""

from __future__ import annotations

import os
from ctypes import c_char_p
from typing import TYPE_CHECKING

from shim.linux import mount_api as api
from shim.linux.fd import OwnedFd
from shim.linux.libc import bind, fail, get_errno

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["empty_root"]

_pivot_root = bind("pivot_root", c_char_p, c_char_p)


def empty_root(programs: Mapping[str, bytes]) -> None:
    """``programs`` are all that there is in the mount namespace of this thread, which must share it with nobody else.

    Processes there whose root directory was that of the namespace have this one.

    Raises:
        OSError: the kernel refuses.
    """
    api.mount("none", "/", "none", api.MS_REC | api.MS_PRIVATE)
    with _tree(programs) as tree:
        with OwnedFd(os.open("/", os.O_PATH | os.O_CLOEXEC)) as root:
            api.move_mount(tree.fileno(), root.fileno())
        os.fchdir(tree.fileno())
        # With "." twice the old root is stacked on the new one, and detached from there.
        if _pivot_root(b".", b".") != 0:
            fail(get_errno(), "/")
        api.umount2(".", api.MNT_DETACH)
        os.chdir("/")


def _tree(programs: Mapping[str, bytes]) -> OwnedFd:
    with api.fsopen("tmpfs") as context:
        api.fsconfig(context.fileno(), api.FSCONFIG_SET_STRING, "mode", "755")
        api.fsconfig(context.fileno(), api.FSCONFIG_CMD_CREATE, None, None)
        tree = api.fsmount(context.fileno(), api.MOUNT_ATTR_NOSUID | api.MOUNT_ATTR_NODEV)
    try:
        for name, content in programs.items():
            with open(
                name, "xb", opener=lambda path, flags: os.open(path, flags, 0o755, dir_fd=tree.fileno())
            ) as file:
                file.write(content)
        api.mount_setattr(tree.fileno(), api.MOUNT_ATTR_RDONLY, recursive=False)
    except BaseException:
        tree.close()
        raise
    return tree
