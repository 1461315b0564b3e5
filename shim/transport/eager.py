"""Running a coroutine at once, with a task only when it waits for something.

A State call takes a few microseconds; a task for it costs a turn of the event loop, which is several times that. So
the first step of every handler runs right where its request was read, and most handlers are finished with it.

Python 3.12 has this (``eager_start``). For 3.11 the difficulty is ``asyncio.current_task()``: asyncio.timeout and
TaskGroup keep what it returns, so in the first step it has to be the very task that will run the later ones. Hence
the *spare*: a real task that has nothing to do yet. It is the current task while a first step runs. When the
coroutine ends there, nobody kept the spare, and it serves the next one; when the coroutine waits, the spare takes
it over, and the next call makes a new spare. Entering a task is what asyncio offers to other implementations of
tasks. What is left of the difference: a context variable that a first step sets and does not reset is seen by the
next first step.

Source: asyncio documentation, "Extending"; PEP 380 for how a coroutine that has begun is resumed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["EagerRunner"]

_Result = TypeVar("_Result")

if sys.version_info >= (3, 12):
    from collections.abc import Coroutine

    class EagerRunner:
        """Runs coroutines in one event loop, the current one."""

        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()

        def run(self, coroutine: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result] | _Result:
            """``coroutine`` has run as far as it could: the task that runs the rest, or the result.

            Raises what the coroutine raises in its first step. Must not be called from within a task.
            """
            task = asyncio.Task(coroutine, loop=self._loop, eager_start=True)
            return task.result() if task.done() else task

        def close(self) -> None:
            """No task is left but those that ``run`` returned. Idempotent."""

else:
    from collections.abc import Coroutine
    from contextvars import copy_context

    class _Handover(Coroutine[Any, Any, Any]):
        """What the spare runs: it waits until there is a coroutine to take over, then runs the rest of that one.

        An object, not an ``async def``: a task that is cancelled before its first step throws into its coroutine
        before anything of it ran. Here that reaches the coroutine that was taken over.
        """

        __name__ = __qualname__ = "handover"  # debugging asks the coroutine of a task for its name

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._work: asyncio.Future[None] = loop.create_future()
            self._taken: Coroutine[Any, Any, Any] | None = None
            self._stopped_at: list[object] = []

        def take_over(self, coroutine: Coroutine[Any, Any, Any], stopped_at: object) -> None:
            """From its next step on this is ``coroutine``, which waits for ``stopped_at``."""
            self._taken = coroutine
            self._stopped_at.append(stopped_at)
            self._work.set_result(None)

        def send(self, value: Any) -> Any:
            """One step; returns what it waits for."""
            if self._taken is None:
                return next(self._work.__await__())
            # What the first step waited for goes to the task as if this step had come to it.
            return self._stopped_at.pop() if self._stopped_at else self._taken.send(value)

        def throw(self, error: Any, *_legacy: Any) -> Any:
            """One step that begins with an exception."""
            if self._taken is None:
                raise error
            self._stopped_at.clear()
            return self._taken.throw(error)

        def close(self) -> None:
            """The coroutine that was taken over is closed."""
            if self._taken is not None:
                self._taken.close()

        def __await__(self) -> Generator[Any, Any, Any]:
            raise TypeError("a handover is run by a task")

    class EagerRunner:
        """Runs coroutines in one event loop, the current one."""

        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()
            self._renew()

        def _renew(self) -> None:
            self._handover = _Handover(self._loop)
            self._context = copy_context()
            self._spare = self._loop.create_task(self._handover, context=self._context)

        def run(self, coroutine: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result] | _Result:
            """``coroutine`` has run as far as it could: the task that runs the rest, or the result.

            Raises what the coroutine raises in its first step. Must not be called from within a task.
            """
            if (
                self._spare.cancelling()
            ):  # by a coroutine that cancelled itself and ended, or with all tasks of the loop
                self._renew()
            loop, task = self._loop, self._spare
            asyncio._enter_task(loop, task)  # noqa: SLF001 - documented, see above
            try:
                stopped_at = self._context.run(coroutine.send, None)
            except StopIteration as stop:
                result: _Result = stop.value
                return result
            finally:
                asyncio._leave_task(loop, task)  # noqa: SLF001 - documented, see above
            self._handover.take_over(coroutine, stopped_at)
            self._renew()
            return task

        def close(self) -> None:
            """No task is left but those that ``run`` returned. Idempotent."""
            self._spare.cancel()
