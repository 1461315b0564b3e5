"""Who a thread is to file systems: a container's root, where the container has users of its own.

A file that is made in a file system of a user namespace has to belong to somebody whom that namespace knows, or the
kernel refuses with EOVERFLOW.

Source: setfsuid(2), setfsgid(2), user_namespaces(7).
"""

from __future__ import annotations

from ctypes import c_uint

from shim.linux.libc import bind

__all__ = ["become_root_of", "root_of"]

# Not like setuid(3), which changes all threads.
_setfsuid = bind("setfsuid", c_uint)
_setfsgid = bind("setfsgid", c_uint)


def root_of(pid: int) -> tuple[int, int]:
    """The user and group ids that 0 of the process's user namespace is here.

    Raises:
        OSError: the process is gone.
        ValueError: nobody is 0 there.
    """
    return _outside(f"/proc/{pid}/uid_map"), _outside(f"/proc/{pid}/gid_map")


def _outside(path: str) -> int:
    with open(path, encoding="ascii") as file:
        for line in file:
            inside, outside, _ = map(int, line.split())
            if inside == 0:
                return outside
    raise ValueError(f"{path}: nobody is 0")


def become_root_of(ids: tuple[int, int]) -> None:
    """The calling thread makes and finds files as ``ids``; if these are not root's, without root's privileges there."""
    uid, gid = ids
    _setfsgid(gid)
    _setfsuid(uid)
