"""Tests that are coroutines: each runs in a loop of its own and has to end in time.

A folder's conftest.py takes part with ``from support.coroutines import pytest_pyfunc_call``. A fixture whose value is an
asynchronous context manager is entered in the test's loop; the test gets what that yields.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress

import prctl
import pytest

from shim.process import Reaper

DEADLINE_S = 120


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None

    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
            arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
            for name, value in arguments.items():
                if isinstance(value, AbstractAsyncContextManager):
                    arguments[name] = await stack.enter_async_context(value)
            await pyfuncitem.obj(**arguments)

    asyncio.run(main())
    return True


async def until(condition: Callable[[], object]) -> None:
    """The condition holds; for what has no event of its own. The test's deadline bounds it."""
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.002)


def has_children() -> bool:
    """Whether this process has a child, a zombie included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@asynccontextmanager
async def reaping() -> AsyncIterator[Reaper]:
    """A reaper that reaps. Afterwards this process is no subreaper any more, and a child that is left is an error."""
    reaper = Reaper()
    reaper.start()
    try:
        yield reaper
        async with asyncio.timeout(30):
            await until(lambda: not has_children())
    except BaseException:
        # A test that fails must not fail the next one, too.
        for child in list(reaper._children.values()):
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
        async with asyncio.timeout(30):
            await until(lambda: not reaper.children)
        raise
    finally:
        reaper.stop()
        prctl.set_child_subreaper(False)
