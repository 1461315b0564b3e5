"""Events: taken from shims as containerd takes them, kept, and given to whoever subscribes.

A shim sends one event at a time and waits for the answer, which comes when the event is stored. What is not answered it
sends again, for as long as it lives; so nothing is lost while we are away, and what comes twice is known by its key.

A subscriber hears first, in the initial metadata, the number of the event that it will get first (``ocishim-first``); those
that follow have the numbers that follow, without a gap. And the number of the last that there is (``ocishim-last``): with that
it is up to date. With ``ocishim-resume-after: N`` in its own metadata it begins after the event of number N (0: with all that are
kept), without it with the next that happens. Event itself has no field for a number.

Source: containerd's events service (ttrpc); the first API's Events.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty

from shim.errors import InvalidArgument, NotFound, ResourceExhausted, ShimError
from shim.grpc_api import task_events
from shim.grpc_api.calls import metadata_number, send_metadata
from shim.grpc_api.event_log import KEPT
from shim.grpc_api.known import CHECKPOINT, CREATE, DELETE, EXIT, START, START_PROCESS
from shim.grpc_api.messages import checkpoint_message
from shim.process.thread import in_thread
from shim.proto.events_service_pb2 import ForwardRequest
from shim.transport.calls import Method

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shim.containers.checkpoints import Checkpoints
    from shim.grpc_api.calls import Context
    from shim.grpc_api.event_log import EventLog
    from shim.grpc_api.known import Known
    from shim.grpc_api.messages import Description
    from shim.proto.first_api_pb2 import Event, EventsRequest, Process
    from shim.proto.types_pb2 import Envelope
    from shim.transport.calls import CallContext

__all__ = ["FIRST_KEY", "LAST_KEY", "RESUME_KEY", "Events"]

FIRST_KEY = "ocishim-first"
LAST_KEY = "ocishim-last"
RESUME_KEY = "ocishim-resume-after"

_SERVICE = "containerd.services.events.ttrpc.v1.Events"
_DESCRIBE_S = 2.0
_TOLD_S = 10.0

_log = logging.getLogger(__name__)


class Events:
    """``describe`` says what is known of a container, and raises ShimError where nothing is."""

    def __init__(
        self,
        log: EventLog,
        known: Known,
        describe: Callable[[str], Awaitable[Description]],
        checkpoints: Checkpoints,
        namespace: str,
    ) -> None:
        self._log = log
        self._known = known
        self._describe = describe
        self._checkpoints = checkpoints
        self._namespace = namespace
        self._seen: dict[tuple[str, int], Process] = {}
        """Processes that were seen and whose end was not told yet, by container and pid."""

    # In.

    def services(self) -> Mapping[str, Mapping[str, Method]]:
        """What shims call, ready for a ttrpc server."""
        return {_SERVICE: {"Forward": Method(self.forward, ForwardRequest)}}

    async def forward(self, request: ForwardRequest, _: CallContext) -> Empty:
        """The event is stored, and told to every subscriber; or was so already.

        Raises:
            InvalidArgument: it is none of ours, and will never be.
        """
        envelope = request.envelope
        if envelope.namespace != self._namespace:
            raise InvalidArgument(
                f"events of namespace {envelope.namespace!r} are not taken here, only those of {self._namespace!r}"
            )
        await self._tell_envelope(envelope)
        return Empty()

    async def take(self, envelope: Envelope) -> None:
        """As ``forward``, for what a shim has left on disk; what is no event is left out."""
        try:
            await self._tell_envelope(envelope)
        except InvalidArgument as error:
            _log.error("an event is lost: %s", error)

    async def _tell_envelope(self, envelope: Envelope) -> None:
        told = task_events.read(envelope)
        if told is not None:
            await self.tell(*told)

    async def tell(self, event: Event, key: str) -> None:
        """``event`` is stored, and told; nothing was done when one of that key was, or when it says nothing new."""
        if self._log.number_of(key) is None:
            await self._fill(event)
        # Not before: others were told while the container was described.
        if self._log.number_of(key) is None and not self._known.repeats(event):
            self._end_of_namesake(event)
            # It was asked a moment later, and more may have happened to it.
            for container in event.containers:
                container.status = self._known.status_after(event)
            self._log.append(event, key)
            self._forget(event)
        if (number := self._log.number_of(key)) is not None:
            await self._log.stored(number)

    async def told(self, container_id: str) -> None:
        """The end of the container is stored, and told; or it was not within ``_TOLD_S``, and the log says so."""
        try:
            async with asyncio.timeout(_TOLD_S):
                while (found := self._known.get(container_id)) is None or not found.ended:
                    await self._log.grown()
                await self._log.settled()
        except TimeoutError:
            _log.warning("the shim of container %s has not told its end", container_id)

    async def look(self, container_id: str) -> None:
        """What runs in the container now is known when its events come, however soon it ends and is forgotten."""
        await self._description(container_id)

    async def _description(self, container_id: str) -> Description | None:
        try:
            async with asyncio.timeout(_DESCRIBE_S):
                found = await self._describe(container_id)
        except NotFound:
            return None  # what is told late has mostly gone
        except (ShimError, TimeoutError) as error:
            _log.info("nothing more is known of container %s: %s", container_id, error)
            return None
        self._seen.update({(container_id, pid): process for pid, process in found.processes.items()})
        return found

    def _end_of_namesake(self, event: Event) -> None:
        """One of the same id was there, and nobody has told its end: it went while we were away."""
        before = self._known.get(event.id)
        if event.type != CREATE or before is None or before.ended or not before.pid:
            return
        missed = task_events.end(event.id, before.pid, task_events.UNKNOWN_STATUS)
        missed.bundlePath = before.bundle
        self._log.append(missed, f"missed {event.id} {before.pid} {self._log.last}")

    async def _fill(self, event: Event) -> None:
        """The fields that say more than the shim did."""
        known = self._known.get(event.id)
        # Of what is gone nobody can tell any more.
        about = None if event.type == DELETE else await self._description(event.id)
        if about is not None:
            event.bundlePath = about.container.bundlePath
            event.containers.append(about.container)
        elif known is not None:
            event.bundlePath = known.bundle or event.bundlePath
        if not event.pid and known is not None:
            event.pid = known.pid
        if event.type in {START, START_PROCESS, EXIT} and (found := self._seen.get((event.id, event.pid))):
            event.process.CopyFrom(found)
        if event.type == CHECKPOINT:
            with suppress(ShimError):  # of one that somebody else had the shim write there is the name
                kept = await in_thread(self._checkpoints.find, event.id, event.checkpoint.name)
                event.checkpoint.CopyFrom(checkpoint_message(kept))

    def _forget(self, event: Event) -> None:
        """What has ended is not asked for any more."""
        if event.type == EXIT:
            self._seen.pop((event.id, event.pid), None)
        elif event.type == DELETE:
            for key in [key for key in self._seen if key[0] == event.id]:
                del self._seen[key]

    # Out.

    async def subscribe(self, _: EventsRequest, context: Context) -> None:
        """Every event is written, in order, until the client goes or is too slow.

        Raises:
            OutOfRange: the events that it asks for are not kept any more.
            ResourceExhausted: it is more than ``KEPT`` events behind.
        """
        after = metadata_number(context, RESUME_KEY, int)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        reader = self._log.reader(None if after is None else int(after), on_cut=lambda: _cancel(task))
        try:
            last = (LAST_KEY, str(self._log.last))
            await send_metadata(context, (FIRST_KEY, str(reader.following)), last)
            while True:
                await context.write(await reader.next())
        except asyncio.CancelledError:
            if not reader.cut:
                raise
            task.uncancel()
            raise ResourceExhausted(
                f"the subscriber is more than {KEPT} events behind; it can go on from the last that it has got, "
                f"with the metadata {RESUME_KEY}, as long as that is kept"
            ) from None
        finally:
            self._log.forget(reader)


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
