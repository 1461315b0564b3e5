"""What a process says about itself to the kernel, through python-prctl.

Source: prctl(2), PR_SET_CHILD_SUBREAPER, PR_SET_NAME and PR_SCHED_CORE; linux/prctl.h.
"""

from __future__ import annotations

import ctypes

import prctl

from shim.linux.libc import bind, fail, get_errno

__all__ = ["create_core_scheduling", "set_child_subreaper", "set_name"]

PR_SCHED_CORE = 62
PR_SCHED_CORE_CREATE = 1
PR_SCHED_CORE_SCOPE_PROCESS_GROUP = 2

# python-prctl is older than core scheduling.
_prctl = bind("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)


def set_child_subreaper(*, enabled: bool = True) -> None:
    """Orphans among our descendants become our children, or not any more: the container's init, once the runtime has ended."""
    prctl.set_child_subreaper(enabled)


def set_name(name: str) -> None:
    """The calling thread's ``comm``, as ps and top show it; the kernel keeps the first 15 bytes."""
    prctl.set_name(name)


def create_core_scheduling() -> None:
    """Our process group, and what is forked in it later, shares a core's hardware threads with nobody else.

    Raises:
        OSError: EINVAL, the kernel has no core scheduling; ENODEV, the CPUs have no SMT.
    """
    if _prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_PROCESS_GROUP, 0):
        fail(get_errno())
