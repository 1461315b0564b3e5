"""The ends that no shim tells: found by looking at what is there, when the daemon starts and again and again.

A shim that has our address tells everything itself, also what happened while we were away; and what it could not tell before
its own end it has left on disk. Not so one that was started when there was no daemon: on its container we wait as any client
does. Nor one that was killed: what it wrote down of the end is told, and where it wrote nothing and the init is gone, that it
ended with status 255. Everything goes through ``Events.tell``, which leaves out what was told before.

Order of a look: first what is known, then what is there, then what was left on disk. A container's directory is made before
its first event and is removed after its shim has left what it had to tell; so what is known and not there has told all.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shim.containers.shim_process import ShimProcess
from shim.errors import FailedPrecondition, NotFound, ShimError
from shim.grpc_api import task_events
from shim.grpc_api.known import DELETE
from shim.process.thread import in_thread
from shim.proto.first_api_pb2 import Event
from shim.service import unsent
from shim.store import records

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shim.containers.containers import Container, Containers, ExitRecord, Record
    from shim.grpc_api.events import Events
    from shim.grpc_api.known import Known, KnownContainer

__all__ = ["EVERY_S", "Reconciler", "ShimConnection"]

EVERY_S = 5.0

_log = logging.getLogger(__name__)


class ShimConnection(Protocol):
    """What is asked of a shim, over a connection that its user closes."""

    async def wait(self, container_id: str) -> int:
        """How the container ended."""

    async def inspect(self, container_id: str) -> Mapping[str, Any]:
        """All about it; with an empty id, about the shim."""

    def close(self) -> None:
        """What waits for an answer fails with Unavailable."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A container that is there."""

    record: Record
    pid: int
    """Of its init, as the shim has written it down; 0 where it has not."""
    shim_lives: bool
    exit: ExitRecord | None


class Reconciler:
    """``run`` looks until it is cancelled. ``events_path``: where we take events, which shims have as their address."""

    def __init__(
        self,
        containers: Containers,
        events: Events,
        known: Known,
        connect: Callable[[str], Awaitable[ShimConnection]],
        events_path: str,
    ) -> None:
        self._containers = containers
        self._events = events
        self._known = known
        self._connect = connect
        self._events_path = events_path
        self._asked: set[tuple[int, int]] = set()
        """Shims that were asked whether they tell: by pid and start time."""
        self._waits: set[asyncio.Task[None]] = set()
        self._broken: set[str] = set()
        """Containers without a record that can be read, of which the log has told."""

    async def run(self) -> None:
        """Looks, every ``EVERY_S`` seconds."""
        while True:
            try:
                await self.look()
            except ShimError as error:
                _log.warning("whether containers have ended cannot be seen: %s", error)
            except Exception:  # noqa: BLE001 - it must not end
                # A fault of ours; who ended meanwhile is found by the next look, if it has another one.
                _log.exception("whether containers have ended cannot be seen")
            await asyncio.sleep(EVERY_S)

    async def close(self) -> None:
        """Nothing is waited for any more."""
        waits = list(self._waits)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def look(self) -> None:
        """Every end up to now is told, or will be by a shim that lives.

        Raises:
            ShimError: what is there cannot be read.
        """
        known = list(self._known)
        seen = await in_thread(self._see)
        await self._take_unsent()
        for container_id, found in seen.items():
            if found is not None:
                await self._reconcile(container_id, found)
        for container_id, about in known:
            if container_id not in seen and self._known.get(container_id) is about:
                await self._gone(container_id, about)
        alive = {(s.record.shim_pid, s.record.shim_started) for s in seen.values() if s and s.shim_lives}
        self._asked &= alive

    def _see(self) -> dict[str, _Seen | None]:
        """None: it is just being made, or that was cut short."""
        return {container.id: self._look_at(container) for container in self._containers.all()}

    def _look_at(self, container: Container) -> _Seen | None:
        try:
            record = container.record()
        except (FailedPrecondition, NotFound):
            return None
        except ShimError as error:
            if container.id not in self._broken:
                self._broken.add(container.id)
                _log.warning("whether container %s ends is not seen: %s", container.id, error)
            return None
        shim = ShimProcess(record.shim_pid, record.shim_started)
        return _Seen(record, _pid_of(container), shim.alive(), container.exit_record())

    async def _take_unsent(self) -> None:
        for path in await in_thread(unsent.found, unsent.directory_of(self._events_path)):
            try:
                envelopes = await in_thread(unsent.read, path)
            except ShimError as error:
                _log.error("events are lost: %s", error)
                envelopes = []
            for envelope in envelopes:
                await self._events.take(envelope)
            await in_thread(records.delete, path)

    async def _reconcile(self, container_id: str, found: _Seen) -> None:
        known = self._known.get(container_id)
        if found.shim_lives:
            await self._ask(container_id, found.record)
        elif known is None or not known.ended:
            pid = known.pid if known is not None else found.pid
            if found.exit is not None:
                await self._tell_end(container_id, pid, found.exit.status, found.record)
            elif pid and _is_gone(pid):
                await self._tell_end(container_id, pid, task_events.UNKNOWN_STATUS, found.record)

    async def _tell_end(self, container_id: str, pid: int, status: int, record: Record) -> None:
        key = f"ended {container_id} {record.shim_pid} {record.shim_started}"
        await self._events.tell(task_events.end(container_id, pid, status), key)

    async def _gone(self, container_id: str, known: KnownContainer) -> None:
        told = f"{container_id} {known.pid} {known.bundle}"
        status = known.exit_status
        if not known.ended and known.pid:
            status = task_events.UNKNOWN_STATUS
            await self._events.tell(task_events.end(container_id, known.pid, status), f"gone {told}")
        event = Event(type=DELETE, id=container_id, pid=known.pid, status=status)
        await self._events.tell(event, f"removed {told}")

    async def _ask(self, container_id: str, record: Record) -> None:
        shim = (record.shim_pid, record.shim_started)
        if shim in self._asked:
            return
        try:
            connection = await self._connect(container_id)
        except ShimError:
            return  # it has just gone: the next look finds out
        try:
            told = (await connection.inspect("")).get("events", {}).get("address") == self._events_path
            about = {} if told else await connection.inspect(container_id)
        except ShimError:
            connection.close()
            return
        self._asked.add(shim)
        if told or about["exit_status"] is not None:
            connection.close()
        if about.get("exit_status") is not None:
            await self._tell_end(container_id, about["pid"], about["exit_status"], record)
        elif not told:
            task = asyncio.create_task(self._wait(container_id, record, connection))
            self._waits.add(task)
            task.add_done_callback(self._waits.discard)

    async def _wait(self, container_id: str, record: Record, connection: ShimConnection) -> None:
        """The end of a container whose shim tells nobody is told."""
        try:
            status = await connection.wait(container_id)
            pid = (await connection.inspect(container_id))["pid"]
            await self._tell_end(container_id, pid, status, record)
        except ShimError:
            # If the shim is not gone, the next look asks it again.
            self._asked.discard((record.shim_pid, record.shim_started))
        finally:
            connection.close()


def _pid_of(container: Container) -> int:
    try:
        return int((container.directory / "init.pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")
