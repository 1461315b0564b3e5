from __future__ import annotations

import asyncio

import pytest

from shim.process.tasks import first_of


async def test_the_first_to_end_ends_the_others():
    ended = []

    async def endless():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("endless")

    await first_of(endless(), asyncio.sleep(0))
    assert ended == ["endless"]


async def test_what_the_first_raises_is_raised():
    async def failing():
        await asyncio.sleep(0)
        raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        await first_of(asyncio.Event().wait(), failing())


async def test_whoever_is_cancelled_leaves_nothing_running():
    started, ended = asyncio.Event(), []

    async def endless():
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    task = asyncio.ensure_future(first_of(endless(), asyncio.Event().wait()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["endless"]
