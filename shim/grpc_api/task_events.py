"""containerd's events of tasks, which shims tell, as Events of the first API.

| topic | type | what is filled |
|---|---|---|
| /tasks/create | create | id, pid, bundlePath, containers |
| /tasks/start | start-container | id, pid, process, bundlePath, containers |
| /tasks/exec-started | start-process | id, pid, process, bundlePath, containers |
| /tasks/exit | exit | id, pid, status, signal, process, bundlePath, containers: of init and execs alike, as the first API had it |
| /tasks/paused | pause | id, pid, bundlePath, containers |
| /tasks/resumed | resume | the same |
| /tasks/oom | oom | the same |
| /tasks/checkpointed | checkpoint | the same, and checkpoint |
| /tasks/delete | delete | id, pid, status, bundlePath |

``signal`` is what a status of 128 + n says: OCI runtimes tell no more. ``containers`` is the one container, as it is then.

Source: containerd api/events/task.proto; containerd of December 2015, supervisor and api/grpc/server, and of June 2016 for
the names of what the former did not tell yet.
"""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError

from shim.errors import InvalidArgument
from shim.grpc_api import known
from shim.proto import events_pb2
from shim.proto.first_api_pb2 import Checkpoint, Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from shim.proto.types_pb2 import Envelope

__all__ = ["UNKNOWN_STATUS", "Told", "end", "read"]

UNKNOWN_STATUS = 255
"""Of what ended when nobody looked, as containerd has it."""

_PACKAGE = "containerd.events."
_SIGNAL_BASE = 128
_SIGNALS = range(1, 65)


class Told(NamedTuple):
    """``key`` tells this event from every other one, however often a shim sends it."""

    event: Event
    key: str


def end(container_id: str, pid: int, status: int) -> Event:
    """The Event of a process that has ended."""
    number = status - _SIGNAL_BASE
    return Event(
        type=known.EXIT, id=container_id, pid=pid, status=status, signal=number if number in _SIGNALS else 0
    )


def read(envelope: Envelope) -> Told | None:
    """The Event of ``envelope``; None where the first API has nothing like it.

    Raises:
        InvalidArgument: the envelope is not what its topic says.
    """
    found = _TOPICS.get(envelope.topic)
    if found is None:
        return None
    kind, to_event = found
    if envelope.event.type_url != _PACKAGE + kind.__name__:
        raise InvalidArgument(f"topic {envelope.topic} with an event of type {envelope.event.type_url!r}")
    try:
        message = kind.FromString(envelope.event.value)
    except DecodeError as error:
        raise InvalidArgument(f"the event of topic {envelope.topic} cannot be decoded") from error
    event = to_event(message)
    if not event.id:
        raise InvalidArgument(f"the event of topic {envelope.topic} names no container")
    key = f"{envelope.topic} {event.id} {event.pid} {envelope.timestamp.ToNanoseconds()}"
    return Told(event, key)


def _created(message: events_pb2.TaskCreate) -> Event:
    return Event(type=known.CREATE, id=message.container_id, pid=message.pid, bundlePath=message.bundle)


def _started(message: events_pb2.TaskStart) -> Event:
    return Event(type=known.START, id=message.container_id, pid=message.pid)


def _exec_started(message: events_pb2.TaskExecStarted) -> Event:
    return Event(type=known.START_PROCESS, id=message.container_id, pid=message.pid)


def _exited(message: events_pb2.TaskExit) -> Event:
    return end(message.container_id, message.pid, message.exit_status)


def _deleted(message: events_pb2.TaskDelete) -> Event:
    return Event(type=known.DELETE, id=message.container_id, pid=message.pid, status=message.exit_status)


def _checkpointed(message: events_pb2.TaskCheckpointed) -> Event:
    name = os.path.basename(message.checkpoint.rstrip("/"))
    return Event(type=known.CHECKPOINT, id=message.container_id, checkpoint=Checkpoint(name=name))


def _simple(
    kind: str,
) -> Callable[[events_pb2.TaskOOM | events_pb2.TaskPaused | events_pb2.TaskResumed], Event]:
    return lambda message: Event(type=kind, id=message.container_id)


_TOPICS: dict[str, tuple[type[Message], Callable[..., Event]]] = {
    "/tasks/create": (events_pb2.TaskCreate, _created),
    "/tasks/start": (events_pb2.TaskStart, _started),
    "/tasks/exec-started": (events_pb2.TaskExecStarted, _exec_started),
    "/tasks/exit": (events_pb2.TaskExit, _exited),
    "/tasks/delete": (events_pb2.TaskDelete, _deleted),
    "/tasks/oom": (events_pb2.TaskOOM, _simple(known.OOM)),
    "/tasks/paused": (events_pb2.TaskPaused, _simple(known.PAUSE)),
    "/tasks/resumed": (events_pb2.TaskResumed, _simple(known.RESUME)),
    "/tasks/checkpointed": (events_pb2.TaskCheckpointed, _checkpointed),
}
