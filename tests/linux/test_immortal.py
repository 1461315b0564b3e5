"""Immortal objects: which become so, that they work as before, and which do not. In forks: it is for ever."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

from support.forks import in_fork

from shim.linux.immortal import immortalize

# Before, nothing is changed, and the rest of what is tested here holds all the same.
NEWER = sys.version_info >= (3, 14)


class Thing:
    """Something of ours."""

    def __init__(self) -> None:
        self.name = f"made at run time, {id(self)}"


def _count(thing: object) -> int:
    """As Python tells it: one more than there are, for the argument."""
    return sys.getrefcount(thing)


def test_using_what_was_there_counts_nothing():
    thing = Thing()

    def check() -> None:
        assert immortalize() == NEWER
        for one in (thing, Thing, Thing.__init__, Thing.__init__.__code__, thing.name):
            before = _count(one)
            kept = [one] * 100
            assert (_count(kept[0]) == before) == NEWER

    in_fork(check)


def test_it_can_be_changed_as_before_and_what_is_new_ends_as_before():
    thing = Thing()

    def check() -> None:
        immortalize()
        new = weakref.ref(other := Thing())
        thing.other = other
        del other
        assert new() is not None
        del thing.other
        assert new() is None
        # A circle through something immortal and a new one that only the collector sees.
        thing.other = [Thing()]
        thing.other.append(thing.other)
        new = weakref.ref(thing.other[0])
        thing.other = None
        gc.collect()
        assert new() is None
        assert immortalize() == NEWER

    in_fork(check)


def test_generators_and_coroutines_that_run_end_when_nobody_holds_them():
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append("coroutine")

    def numbers():
        try:
            yield 1
        finally:
            ended.append("generator")

    def check() -> None:
        generator = numbers()
        next(generator)
        coroutine = wait()
        coroutine.send(None)
        immortalize()
        del generator, coroutine
        assert ended == ["generator", "coroutine"]

    in_fork(check)


def test_a_whole_event_loop_runs_on_it():
    async def meet() -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(int, str(n)) for n in range(20)))

    def check() -> None:
        immortalize()
        assert asyncio.run(meet()) == list(range(20))

    in_fork(check)
