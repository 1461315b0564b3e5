"""Functions whose code is copied do what they did, and what ran lies in fewer pages."""

from __future__ import annotations

import gc
from collections.abc import Callable

from support.forks import in_fork

from shim.bootstrap import hot_code

PAGE = 4096


def outer(step: int) -> Callable[[int], int]:
    def inner(number: int) -> int:
        return number + step

    return inner


def never_called() -> None:
    raise AssertionError


def test_what_runs_is_recorded_and_no_more():
    with hot_code.recorded() as found:
        made = outer(1)
    assert id(outer.__code__) in found
    assert not {id(made.__code__), id(never_called.__code__)} & found


def test_functions_do_what_they_did():
    """Also those that others have made, then and later; whoever shares code shares the copy."""

    def child() -> None:
        gc.unfreeze()  # what the tests have frozen is found by nobody
        first, second = outer(1), outer(2)
        with hot_code.recorded() as found:
            first(0)
        before = outer.__code__, first.__code__, never_called.__code__
        hot_code.put_together(found)
        assert (first(10), second(10), outer(3)(10)) == (11, 12, 13)
        assert first.__code__ is second.__code__ is outer(4).__code__
        assert outer.__code__ is not before[0]
        assert first.__code__ is not before[1]
        assert never_called.__code__ is before[2]

    in_fork(child)


def test_it_takes_fewer_pages():
    def pages(functions: list[Callable[..., object]]) -> int:
        return len({id(function.__code__) // PAGE for function in functions})

    def child() -> None:
        gc.unfreeze()
        # Every twentieth of all that there are, as scattered as they can be.
        functions = [each for each in gc.get_objects() if type(each) is type(child)][::20]
        before = pages(functions)
        hot_code.put_together({id(function.__code__) for function in functions})
        assert pages(functions) < before / 1.5

    in_fork(child)
