"""Code that runs in every shim lies side by side, in as few pages as hold it.

A call counts references to the function's code, and specializes and counts in its instructions; the first write to a page
after fork(2) copies it. As modules are loaded, what runs in a shim lies among ten times as much that does not.

Source: PEP 659; CPython Objects/codeobject.c.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["put_together", "recorded"]

# What was replaced is not freed: its room would be the first that a shim fills, page for page.
_old: list[CodeType] = []


@contextmanager
def recorded() -> Iterator[set[int]]:
    """The ids of all code that this thread begins to run meanwhile."""
    found: set[int] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            found.add(id(frame.f_code))

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


def put_together(hot: set[int]) -> None:
    """Functions whose code is ``hot``, or has such in it, have copies of it, made one after the other.

    The copies are as if they had never run.
    """
    functions = [each for each in gc.get_objects() if type(each) is FunctionType]
    copies: dict[int, CodeType] = {}
    for function in functions:
        if _has(hot, function.__code__):
            _old.append(function.__code__)
            function.__code__ = _copy(function.__code__, hot, copies)


def _has(hot: set[int], code: CodeType) -> bool:
    return id(code) in hot or any(_has(hot, each) for each in _nested(code))


def _nested(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]


def _copy(code: CodeType, hot: set[int], copies: dict[int, CodeType]) -> CodeType:
    # One for all functions that share it, as those that a function has made each time it ran.
    if id(code) not in copies:
        constants = (
            _copy(each, hot, copies) if isinstance(each, CodeType) and _has(hot, each) else each
            for each in code.co_consts
        )
        copies[id(code)] = code.replace(co_consts=tuple(constants))
    return copies[id(code)]
