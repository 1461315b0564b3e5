"""Sends events to containerd, in order, and keeps them while it is away.

One queue, one sender: what is told first is sent first, and nothing overtakes an event that has to be tried again. While
containerd is down the queue grows; each container may have ``KEPT`` events in it, and when it has more, its oldest one that is
no end (exit, delete, out of memory) is dropped, and counted. Ends are never dropped, but those of execs that our own daemon
has not taken.

Without an address (nobody who started us has a place for events) they are dropped at once. Our own daemon finds on disk
(``unsent.py``) what nobody took to the end.

Source: containerd pkg/shim/publisher.go, which gives up after five tries and lets events overtake each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.empty_pb2 import Empty

from shim.errors import InvalidArgument, ResourceExhausted, ShimError
from shim.process.thread import in_thread
from shim.proto.events_service_pb2 import ForwardRequest
from shim.service import unsent
from shim.service.event_messages import envelope
from shim.task.events import TaskDeleted, TaskExited, TaskOom
from shim.transport.aclient import AsyncClient
from shim.transport.client import socket_path

if TYPE_CHECKING:
    from shim.task.events import Event

__all__ = ["KEPT", "Publisher"]

_log = logging.getLogger(__name__)

KEPT = 1000
"""Events of one container that are kept while nobody takes them."""

_SERVICE = "containerd.services.events.ttrpc.v1.Events"
_CALL_S = 5.0
_FIRST_DELAY_S = 0.05
_MAX_DELAY_S = 2.0
_ROUNDS = 3
_ENDS = (TaskExited, TaskDeleted, TaskOom)


class _Waiting(NamedTuple):
    event: Event
    at_ns: int


class Publisher:
    """``publish`` from the loop's thread, at any rate; ``close`` waits a little for what is left."""

    def __init__(self, address: str, namespace: str, leave_in: str = "") -> None:
        """``leave_in``: a directory for what is left at the end; empty: it is dropped."""
        self._address = _usable(address)
        self._leave_in = leave_in
        self._namespace = namespace
        self._queue: deque[_Waiting] = deque()
        self._per_container: Counter[str] = Counter()
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._client: AsyncClient | None = None
        self._sender: asyncio.Task[None] | None = None
        self.sent = 0
        self.dropped = 0
        self._complained = False
        self._full = False

    def __len__(self) -> int:
        return len(self._queue)

    def publish(self, event: Event) -> None:
        """The event will be sent after all that were published before it."""
        if not self._address:
            return
        self._queue.append(_Waiting(event, time.time_ns()))
        self._per_container[event.container_id] += 1
        if self._per_container[event.container_id] > KEPT:
            self._drop_one(event.container_id)
        self._empty.clear()
        self._more.set()
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())

    async def close(self, timeout_s: float) -> None:
        """What is left was sent, or ``timeout_s`` is over, and then left on disk or dropped; the connection is closed."""
        # What is left on disk is not lost: who was not there is not waited for.
        if not (self._leave_in and self._complained):
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._empty.wait()
        if self._sender is not None:
            self._sender.cancel()
            with suppress(asyncio.CancelledError):
                await self._sender
        if self._queue:
            await self._leave()
        if self._client is not None:
            self._client.close()

    def describe(self) -> dict[str, str | int]:
        """For whoever asks how we are."""
        return {
            "address": self._address,
            "waiting": len(self._queue),
            "sent": self.sent,
            "dropped": self.dropped,
        }

    async def _leave(self) -> None:
        if self._leave_in:
            envelopes = [envelope(waiting.event, self._namespace, waiting.at_ns) for waiting in self._queue]
            try:
                await in_thread(unsent.leave, self._leave_in, envelopes, always=True)
            except ShimError as error:
                _log.warning("events cannot be left for later: %s", error)
            else:
                return
        _log.warning("%d events were never sent: nobody takes them at %s", len(self._queue), self._address)

    def _drop_one(self, container_id: str) -> None:
        for index, waiting in enumerate(self._queue):
            # The first may be on its way already.
            if index and waiting.event.container_id == container_id and self._may_go(waiting.event):
                del self._queue[index]
                self._forget(container_id)
                self.dropped += 1
                self._complain_full(container_id)
                return

    def _may_go(self, event: Event) -> bool:
        # containerd starts no execs while it is away; ocishim does while the daemon is, as many as there may be.
        if self._leave_in and isinstance(event, TaskExited):
            return event.id != event.container_id
        return not isinstance(event, _ENDS)

    def _forget(self, container_id: str) -> None:
        self._per_container[container_id] -= 1
        if not self._per_container[container_id]:
            del self._per_container[container_id]

    async def _send_all(self) -> None:
        while True:
            if not self._queue:
                await self._more.wait()
                # The answers to those who wait for what has happened go first: that of Wait is three rounds of the loop away.
                for _ in range(_ROUNDS):
                    await asyncio.sleep(0)
            await self._send_first()
            waiting = self._queue.popleft()
            self._forget(waiting.event.container_id)
            if not self._queue:
                self._more.clear()
                self._empty.set()

    async def _send_first(self) -> None:
        waiting = self._queue[0]
        request = ForwardRequest(envelope=envelope(waiting.event, self._namespace, waiting.at_ns))
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                await self._forward(request)
            except (InvalidArgument, ResourceExhausted) as error:
                # Malformed or too large: it would be refused for ever, and all others behind it with it.
                _log.warning(
                    "a %s of container %s cannot be sent: %s",
                    type(waiting.event).__name__,
                    waiting.event.container_id,
                    error,
                )
                self.dropped += 1
                return
            except ShimError as error:
                self._complain(error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _MAX_DELAY_S)
            else:
                self._recovered()
                return

    async def _forward(self, request: ForwardRequest) -> None:
        if self._client is None or self._client.closed:
            self._client = await AsyncClient.connect(self._address, _CALL_S)
        await self._client.call(
            _SERVICE, "Forward", request, Empty, timeout_s=_CALL_S, namespace=self._namespace
        )

    def _complain(self, error: ShimError) -> None:
        if not self._complained:
            _log.warning("events wait, nobody takes them at %s: %s", self._address, error)
            self._complained = True

    def _complain_full(self, container_id: str) -> None:
        if not self._full:
            _log.warning(
                "more than %d events of container %s wait: its oldest are dropped, ends excepted",
                KEPT,
                container_id,
            )
            self._full = True

    def _recovered(self) -> None:
        self.sent += 1
        if self._complained or self._full:
            _log.info(
                "events are taken again at %s; %d wait, %d were dropped",
                self._address,
                len(self),
                self.dropped,
            )
            self._complained = self._full = False


def _usable(address: str) -> str:
    try:
        return socket_path(address) if address else ""
    except InvalidArgument as error:
        _log.warning("events go nowhere: %s", error)
        return ""
