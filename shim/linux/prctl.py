"""What a process says about itself to the kernel, through python-prctl.

Source: prctl(2), PR_SET_CHILD_SUBREAPER, PR_SET_NAME, PR_SET_PDEATHSIG, PR_SET_MM, PR_SET_SECUREBITS and PR_SCHED_CORE;
capabilities(7); linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING

import prctl

from shim.linux.libc import bind, fail, get_errno

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "create_core_scheduling",
    "get_name",
    "renounce_privileges",
    "set_child_subreaper",
    "set_command_line",
    "set_name",
    "set_parent_death_signal",
]

PR_SET_MM = 35
PR_SET_MM_ARG_START, PR_SET_MM_ARG_END, PR_SET_MM_ENV_START, PR_SET_MM_ENV_END = 8, 9, 10, 11
PR_SET_MM_MAP = 14
_AREAS = ("start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack")
PR_SCHED_CORE = 62
PR_SCHED_CORE_CREATE = 1
PR_SCHED_CORE_SCOPE_PROCESS_GROUP = 2

# python-prctl is older than core scheduling.
_prctl = bind("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
# The one function here that returns an address.
_sbrk = ctypes.CDLL(None)["sbrk"]
_sbrk.argtypes = (ctypes.c_ssize_t,)
_sbrk.restype = ctypes.c_void_p


def set_child_subreaper(*, enabled: bool = True) -> None:
    """Orphans among our descendants become our children, or not any more: the container's init, once the runtime has ended."""
    prctl.set_child_subreaper(enabled)


def set_name(name: str) -> None:
    """The calling thread's ``comm``, as ps and top show it; the kernel keeps the first 15 bytes."""
    prctl.set_name(name)


def get_name() -> str:
    """The calling thread's ``comm``."""
    return str(prctl.get_name())


def create_core_scheduling() -> None:
    """Our process group, and what is forked in it later, shares a core's hardware threads with nobody else.

    Raises:
        OSError: EINVAL, the kernel has no core scheduling; ENODEV, the CPUs have no SMT.
    """
    if _prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_PROCESS_GROUP, 0):
        fail(get_errno())


def renounce_privileges() -> None:
    """What the calling thread executes has no capability, though its user is root, and never gets one."""
    prctl.set_securebits(prctl.SECBIT_NOROOT | prctl.SECBIT_NOROOT_LOCKED)
    prctl.set_no_new_privs(1)


def set_parent_death_signal(number: int) -> None:
    """``number`` comes when our parent ends; 0: none does. A parent that has ended before is for the caller to see."""
    prctl.set_pdeathsig(number)


class _MemoryMap(ctypes.Structure):
    """struct prctl_mm_map."""

    _fields_ = (
        *(
            (name, ctypes.c_uint64)
            for name in (*_AREAS, "arg_start", "arg_end", "env_start", "env_end", "auxv")
        ),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


_command_lines: list[mmap.mmap] = []


def set_command_line(arguments: Sequence[bytes], environment: Sequence[bytes]) -> None:
    """Everybody reads these in /proc/<pid>/cmdline and environ from now on, as if we had been executed with them.

    Raises:
        OSError: EPERM, a kernel without CONFIG_CHECKPOINT_RESTORE wants CAP_SYS_RESOURCE.
    """
    first, second = (b"".join(word + b"\0" for word in words) for words in (arguments, environment))
    memory = mmap.mmap(-1, max(len(first) + len(second), 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(first + second)
    _command_lines.append(memory)  # the kernel reads it for as long as we live
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    middle, end = start + len(first), start + len(first) + len(second)
    if not _set_map(start, middle, end):
        _set_each(start, middle, end)


def _set_map(start: int, middle: int, end: int) -> bool:
    # All other areas stay: proc_pid_stat(5) has where they are, but for the end of the heap.
    with open("/proc/self/stat", "rb") as file:
        stat = file.read().rpartition(b")")[2].split()
    code_start, code_end, stack, *data = (int(stat[field - 3]) for field in (26, 27, 28, 45, 46, 47))
    areas = (code_start, code_end, *data, _sbrk(0), stack)
    wanted = _MemoryMap(*areas, start, middle, middle, end, exe_fd=2**32 - 1)
    return _prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(wanted), ctypes.sizeof(wanted), 0) == 0


def _set_each(start: int, middle: int, end: int) -> None:
    # Each call is checked for start <= end, and new mappings are below the stack, where exec put the old ones.
    for what, at in (
        (PR_SET_MM_ARG_START, start),
        (PR_SET_MM_ARG_END, middle),
        (PR_SET_MM_ENV_START, middle),
        (PR_SET_MM_ENV_END, end),
    ):
        if _prctl(PR_SET_MM, what, at, 0, 0):
            fail(get_errno())
