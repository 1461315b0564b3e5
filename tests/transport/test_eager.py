"""Coroutines run at once, with the current task, context and cancellation of an ordinary task."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import pytest

from shim.transport.eager import EagerRunner


def driven(scenario):
    """``scenario(run)`` in an event loop; ``run`` calls the runner as a protocol would: outside of any task."""

    async def main():
        runner = EagerRunner()
        loop = asyncio.get_running_loop()

        async def run(coroutine):
            result = loop.create_future()

            def from_the_loop():
                try:
                    result.set_result(runner.run(coroutine))
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - handed to the test
                    result.set_exception(error)

            loop.call_soon(from_the_loop)
            return await result

        await scenario(run)
        runner.close()
        runner.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_what_does_not_wait_needs_no_task():
    async def scenario(run):
        seen = []

        async def quick():
            seen.append(asyncio.current_task())

        for _ in range(3):
            assert await run(quick()) is None
        assert None not in seen

    driven(scenario)


def test_the_first_step_happens_before_run_returns():
    async def scenario(run):
        steps = []

        async def slow():
            steps.append(1)
            await asyncio.sleep(0)
            steps.append(2)

        task = await run(slow())
        assert steps[0] == 1
        await task
        assert steps == [1, 2]

    driven(scenario)


@pytest.mark.parametrize("wait", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(0.001)])
def test_all_steps_belong_to_one_task(wait):
    async def scenario(run):
        seen = []

        async def slow():
            for _ in range(3):
                seen.append(asyncio.current_task())
                await wait()

        tasks = [await run(slow()) for _ in range(3)]
        await asyncio.gather(*tasks)
        assert sorted(map(id, seen)) == sorted(id(task) for task in tasks * 3)

    driven(scenario)


def test_several_at_once_do_not_disturb_each_other():
    async def scenario(run):
        gate = asyncio.Event()
        done = []

        async def slow(n):
            await gate.wait()
            done.append(n)

        tasks = [await run(slow(n)) for n in range(5)]
        gate.set()
        await asyncio.gather(*tasks)
        assert done == list(range(5))

    driven(scenario)


def test_a_timeout_may_begin_in_the_first_step():
    async def scenario(run):
        outcome = []

        async def slow():
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            except TimeoutError:
                outcome.append("timeout")

        await (await run(slow()))
        assert outcome == ["timeout"]

    driven(scenario)


def test_a_task_group_may_begin_in_the_first_step():
    async def scenario(run):
        done = []

        async def slow():
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
            done.append(1)

        await (await run(slow()))
        assert done == [1]

    driven(scenario)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_cancellation_reaches_the_coroutine_whenever_it_comes(turns):
    async def main():
        runner, loop = EagerRunner(), asyncio.get_running_loop()
        outcome = []

        async def slow():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                outcome.append("cancelled")
                await asyncio.sleep(0)
                outcome.append("cleaned up")
                raise

        made = loop.create_future()

        def start():
            task = runner.run(slow())
            if not turns:
                task.cancel()
            made.set_result(task)

        loop.call_soon(start)
        task = await made
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert outcome == ["cancelled", "cleaned up"]
        runner.close()

    asyncio.run(main())


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_coroutine_that_cancels_its_task_and_ends_harms_no_other(turns):
    async def scenario(run):
        async def quick():
            asyncio.current_task().cancel()

        async def slow():
            await asyncio.sleep(0.001)
            done.append(1)

        done = []
        with contextlib.suppress(asyncio.CancelledError):  # what came of it is its own affair
            await run(quick())
        for _ in range(turns):
            await asyncio.sleep(0)
        await (await run(slow()))
        assert done == [1]

    driven(scenario)


def test_errors_of_the_first_step_and_of_later_ones():
    async def scenario(run):
        async def quick():
            raise KeyError("first")

        async def slow():
            await asyncio.sleep(0)
            raise KeyError("later")

        with pytest.raises(KeyError, match="first"):
            await run(quick())
        task = await run(slow())
        with pytest.raises(KeyError, match="later"):
            await task

    driven(scenario)


def test_context_variables_last_from_step_to_step():
    variable = contextvars.ContextVar("variable", default="unset")

    async def scenario(run):
        seen = []

        async def slow(value):
            token = variable.set(value)
            await asyncio.sleep(0)
            seen.append(variable.get())
            variable.reset(token)

        tasks = [await run(slow(value)) for value in "ab"]
        await asyncio.gather(*tasks)
        assert sorted(seen) == ["a", "b"]
        assert variable.get() == "unset"

    driven(scenario)


def test_the_end_of_the_loop_ends_what_runs():
    outcome = []

    async def slow():
        try:
            await asyncio.Event().wait()
        finally:
            outcome.append("ended")

    async def main():
        runner = EagerRunner()
        asyncio.get_running_loop().call_soon(runner.run, slow())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert outcome == ["ended"]
