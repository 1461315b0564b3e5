"""Objects whose references nobody counts: what a process has before it is forked stays shared when it is used.

Counting a reference writes into the object, and the first write to a page after fork(2) copies it. Python 3.12 has objects
that are not counted, for its own constants; here 3.14's own function makes all others such, too. It also takes them out of
the garbage collector's lists, in whose headers a collection would write.

Generators and coroutines that run stay as they are: their end, when nobody holds them any more, is a part of what they do.

Source: PEP 683; CPython Objects/object.c, _Py_SetImmortal.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["immortalize"]

_MORTAL = (AsyncGeneratorType, CoroutineType, FrameType, GeneratorType, TracebackType)

_is_immortal: Callable[[object], bool] | None = getattr(sys, "_is_immortal", None)
# Of this version, as exported as it is; without either nothing is immortal but what Python makes so.
_set_immortal: Any = getattr(ctypes.pythonapi, "_Py_SetImmortal", None)
if _set_immortal is not None:
    _set_immortal.argtypes, _set_immortal.restype = (ctypes.py_object,), None


def immortalize() -> bool:
    """Every object that can be reached lives as long as the process; False, and nothing is changed, before Python 3.14.

    Never in a process that goes on making and dropping things: what is there at this moment is never freed.
    """
    if _is_immortal is None or _set_immortal is None:
        return False
    # Tracked objects first, then, step by step, what only they refer to: strings, numbers, bytecode.
    found = gc.get_objects()
    while found:
        fresh = [each for each in found if not (_is_immortal(each) or isinstance(each, _MORTAL))]
        # By map() alone: a variable that holds an object meanwhile takes one off its count, which its first use then writes.
        deque(map(_set_immortal, fresh), maxlen=0)
        found = gc.get_referents(*fresh)
    return True
