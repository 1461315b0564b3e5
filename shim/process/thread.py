"""System calls that may block for long, away from the event loop.

Each has a thread of its own, which ends with it: those of a pool stay, cost memory in every shim, and six calls on a disk
that hangs would be all that there can be. A call cannot be taken back once it has begun, so whoever is cancelled still
waits for its end; otherwise what is to undo it would overtake it.

Source: _thread and asyncio documentation.
"""

from __future__ import annotations

import _thread
import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from shim.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["begin_in_thread", "in_thread"]

_Result = TypeVar("_Result")


def begin_in_thread(call: Callable[[], _Result]) -> asyncio.Future[_Result]:
    """``call`` runs in a thread; the future has what it returns or raises. Whoever waits may give up: the thread goes on.

    Neither the end of the loop nor that of the process waits for it.

    Raises:
        ResourceExhausted: no thread can be had.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()

    def tell(tell_it: Callable[[Any], None], what: object) -> None:
        if not outcome.done():  # nobody has cancelled it
            tell_it(what)

    def run() -> None:
        with suppress(RuntimeError):  # of a loop that has ended meanwhile
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                loop.call_soon_threadsafe(tell, outcome.set_exception, error)
            else:
                loop.call_soon_threadsafe(tell, outcome.set_result, result)

    try:
        # Not threading's, whose start waits until the thread runs: two more turns of the scheduler.
        _thread.start_new_thread(run, ())
    except RuntimeError as error:
        raise ResourceExhausted("no thread can be had") from error
    return outcome


async def in_thread(call: Callable[..., _Result], *arguments: object, always: bool = False) -> _Result:
    """What ``call`` returns or raises, in a thread; it has ended then, also when the caller was cancelled meanwhile.

    Raises:
        ResourceExhausted: no thread can be had. With ``always`` it is run here and now instead: for what must be done.
    """
    try:
        outcome = begin_in_thread(partial(call, *arguments))
    except ResourceExhausted:
        if always:
            return call(*arguments)
        raise
    await _end_of(outcome)
    return outcome.result()


async def _end_of(outcome: asyncio.Future[_Result]) -> None:
    cancelled: asyncio.CancelledError | None = None
    while not outcome.done():
        try:
            await asyncio.wait([outcome])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        outcome.exception()  # looked at: nobody else will
        raise cancelled
