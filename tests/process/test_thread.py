"""Calls in threads of their own."""

from __future__ import annotations

import _thread
import asyncio
import threading

import pytest
from support.coroutines import until

from shim.errors import ResourceExhausted
from shim.process.thread import begin_in_thread, in_thread


async def test_the_result_and_the_error_come_back():
    before = _thread._count()
    *arguments, thread = await in_thread(lambda a, b: (a, b, threading.get_ident()), 1, 2)
    assert arguments == [1, 2]
    assert thread != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
    await until(lambda: _thread._count() == before)


async def test_the_loop_goes_on_meanwhile():
    gate = threading.Event()
    call = asyncio.create_task(in_thread(gate.wait))
    await asyncio.sleep(0)
    assert not call.done()
    gate.set()
    assert await call


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_waits_for_its_end(fails):
    """What is to undo the call must not overtake it."""
    gate, ended = threading.Event(), []

    def work() -> None:
        gate.wait()
        ended.append(True)
        if fails:
            raise OSError

    call = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0)
    for _ in range(2):
        call.cancel()
        await asyncio.wait([call], timeout=0.01)
        assert not call.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended


async def test_no_thread_can_be_had(monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with pytest.raises(ResourceExhausted, match="no thread"):
        await in_thread(threading.get_ident)
    assert await in_thread(threading.current_thread, always=True) is threading.main_thread()


@pytest.mark.parametrize("fails", [False, True])
async def test_who_gives_up_does_not_wait(fails, caplog):
    """The call goes on, and what comes of it is nobody's any more."""
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait()
        ended.set()
        if fails:
            raise OSError

    outcome = begin_in_thread(work)
    outcome.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outcome
    before = _thread._count()
    gate.set()
    await until(ended.is_set)
    await until(lambda: _thread._count() <= before)
    await asyncio.sleep(0)
    assert caplog.text == ""


async def test_what_was_begun_comes_back():
    assert await begin_in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await begin_in_thread(lambda: 1 // 0)


def test_the_end_of_the_loop_does_not_wait():
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait()
        ended.set()

    async def begin() -> None:
        begin_in_thread(work)

    asyncio.run(begin())
    assert not ended.is_set()
    gate.set()
    assert ended.wait(30)
