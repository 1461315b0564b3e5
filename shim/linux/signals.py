"""Signals that the C library keeps for itself, and lets nobody change: 32 and 33 with glibc.

A parent that ignores them hands that on, and glibc's posix_spawn(3) makes such children.

Source: signal(7), nptl(7), rt_sigaction(2).
"""

from __future__ import annotations

import os
import signal
from ctypes import c_int, c_long, c_size_t, c_void_p, create_string_buffer
from typing import Final

from shim.linux.libc import bind, fail, get_errno

__all__ = ["reset_reserved"]

_RT_SIGACTION: Final = 13 if os.uname().machine == "x86_64" else 134
_SET_SIZE: Final = 8
# struct kernel_sigaction, all zero: SIG_DFL, no flags, no mask.
_DEFAULT: Final = create_string_buffer(32)

_rt_sigaction = bind("syscall", c_long, c_int, c_void_p, c_void_p, c_size_t)


def reset_reserved() -> None:
    """They do what they do by default. Not for a process that has threads, whom they end.

    Raises:
        OSError: the kernel does not know rt_sigaction(2) by this number.
    """
    for number in range(1, signal.NSIG):
        reserved = number not in signal.valid_signals() and number < signal.SIGRTMAX
        if reserved and _rt_sigaction(_RT_SIGACTION, number, _DEFAULT, None, _SET_SIZE) < 0:
            fail(get_errno())
