"""One call of a server that takes its time, and its end: an answer, a deadline, or nobody who waits for it.

Answered once, by whatever comes first. A handler that is shielded goes on all the same, and what becomes of it then only the
log is told.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from shim.errors import Code, ShimError
from shim.transport.calls import HANDLER_ERRORS, failure, status

if TYPE_CHECKING:
    import asyncio

    from google.protobuf.message import Message

    from shim.transport.calls import Method

__all__ = ["Asker", "Call"]

_log = logging.getLogger(__name__)


class Asker(Protocol):
    """The connection over which a call came."""

    def answer(self, stream_id: int, method: Method, result: Message | None) -> None:
        """The handler has returned ``result``."""

    def reply(self, stream_id: int, payload: bytes) -> None:
        """``payload``, a serialized Response, is the answer."""

    def ended(self, call: Call) -> None:
        """The handler of ``call`` has ended, and it was answered if anybody waited."""


class Call:
    """One request whose handler has not finished at once."""

    __slots__ = ("_asker", "_method", "_timer", "_waited_for", "_what", "stream_id", "task")

    def __init__(
        self, asker: Asker, stream_id: int, method: Method, what: str, task: asyncio.Task[Any]
    ) -> None:
        self.stream_id = stream_id
        self.task = task
        self._asker = asker
        self._method = method
        self._what = what
        self._waited_for = True
        self._timer: asyncio.TimerHandle | None = None
        task.add_done_callback(self._done)

    def expire_at(self, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        """The call will be answered at ``deadline`` even if its handler has not ended."""
        self._timer = loop.call_at(deadline, self._expired)

    def _expired(self) -> None:
        text = f"{self._what}: context deadline exceeded"
        self._asker.reply(self.stream_id, status(Code.DEADLINE_EXCEEDED, text))
        self.abandon()

    def abandon(self) -> None:
        """Nobody waits for the answer any more: a handler that is not shielded ends now."""
        self._waited_for = False
        if self._timer is not None:
            self._timer.cancel()
        if not self._method.shielded:
            self.task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._waited_for:
            self._answer()
        elif not task.cancelled() and (error := task.exception()) is not None:
            # Nothing fails silently: this is a shielded handler, which changes something that lasts.
            fault = None if isinstance(error, ShimError) else error
            _log.warning("%s failed when nobody waited any more: %s", self._what, error, exc_info=fault)
        self._asker.ended(self)

    def _answer(self) -> None:
        try:
            self._asker.answer(self.stream_id, self._method, self.task.result())
        except HANDLER_ERRORS as error:
            self._asker.reply(self.stream_id, failure(error, self._what))
