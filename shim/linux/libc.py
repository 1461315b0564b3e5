"""The C library through ctypes: how every other file here binds, calls and fails.

``argtypes`` is state of the function object, and ``cdll.name`` hands the same object to everybody; ``bind`` makes a
fresh one for each signature, once, at import, and nobody changes it afterwards. ``errno`` must be read before any
other call can change it: ``use_errno`` keeps a copy per thread, and ``fail`` takes the value rather than reading it.

Source: errno(3), syscall(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from ctypes import get_errno
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

if TYPE_CHECKING:
    from _ctypes import _SimpleCData

    from _typeshed import StrOrBytesPath

    CType: TypeAlias = type[_SimpleCData[Any]]

__all__ = ["Function", "bind", "bind_syscall", "encode", "fail", "get_errno"]

# A C function that returns int, -1 for an error.
Function: TypeAlias = Callable[..., int]

_LIBC = ctypes.CDLL(None, use_errno=True)


def bind(name: str, *argtypes: CType) -> Function:
    """The C library's ``name`` with this signature, returning int.

    Raises:
        AttributeError: the C library has no such function.
    """
    function = _LIBC[name]
    function.argtypes = argtypes
    function.restype = ctypes.c_int
    return function


def bind_syscall(name: str, number: int, *argtypes: CType) -> Function:
    """``name`` where the C library has it, else system call ``number``; ENOSYS shows when it is called.

    musl and glibc before 2.36 lack the new mount API although the kernel has it.
    """
    try:
        return bind(name, *argtypes)
    except AttributeError:
        syscall = bind("syscall", ctypes.c_long, *argtypes)
        return lambda *args: syscall(number, *args)


def encode(path: StrOrBytesPath) -> bytes:
    """``path`` as bytes for C.

    Raises:
        OSError: EINVAL, it holds a NUL byte, at which C would cut it.
    """
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise OSError(errno.EINVAL, "a path cannot hold a NUL byte", os.fsdecode(raw))
    return raw


def fail(error: int, path: StrOrBytesPath | None = None) -> NoReturn:
    """Raise the OSError of ``error``, which the caller read right after the call that failed."""
    if path is None:
        raise OSError(error, os.strerror(error))
    raise OSError(error, os.strerror(error), os.fsdecode(path))
