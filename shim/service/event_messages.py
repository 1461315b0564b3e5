"""Events of tasks as containerd's messages, each with its topic.

Source: containerd api/events/task.proto and core/runtime/events.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp

from shim.proto import events_pb2 as wire
from shim.proto.types_pb2 import Envelope, Mount
from shim.task import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from shim.task.events import Event

__all__ = ["envelope", "timestamp"]

_NANOS = 1_000_000_000


def timestamp(ns: int) -> Timestamp:
    """Nanoseconds since the epoch, as the wire has them."""
    seconds, nanos = divmod(ns, _NANOS)
    return Timestamp(seconds=seconds, nanos=nanos)


def envelope(event: Event, namespace: str, at_ns: int) -> Envelope:
    """The event, as it happened at ``at_ns``, ready to be forwarded."""
    topic, to_message = _MESSAGES[type(event)]
    message = to_message(event)
    # typeurl of containerd: the bare name, without type.googleapis.com/.
    packed = AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())
    return Envelope(timestamp=timestamp(at_ns), namespace=namespace, topic=topic, event=packed)


def _created(event: events.TaskCreated) -> wire.TaskCreate:
    streams = event.streams
    return wire.TaskCreate(
        container_id=event.container_id,
        bundle=event.bundle,
        rootfs=[
            Mount(type=m.type, source=m.source, target=m.target, options=m.options) for m in event.rootfs
        ],
        io=wire.TaskIO(
            stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr, terminal=streams.terminal
        ),
        checkpoint=event.checkpoint,
        pid=event.pid,
    )


def _exited(event: events.TaskExited) -> wire.TaskExit:
    return wire.TaskExit(
        container_id=event.container_id,
        id=event.id,
        pid=event.pid,
        exit_status=event.exit.status,
        exited_at=timestamp(event.exit.exited_at_ns),
    )


def _deleted(event: events.TaskDeleted) -> wire.TaskDelete:
    message = wire.TaskDelete(container_id=event.container_id, pid=event.pid)
    if event.exit is not None:
        message.exit_status = event.exit.status
        message.exited_at.CopyFrom(timestamp(event.exit.exited_at_ns))
    return message


_MESSAGES: dict[type[Event], tuple[str, Callable[[Any], Message]]] = {
    events.TaskCreated: ("/tasks/create", _created),
    events.TaskStarted: ("/tasks/start", lambda e: wire.TaskStart(container_id=e.container_id, pid=e.pid)),
    events.TaskExited: ("/tasks/exit", _exited),
    events.TaskDeleted: ("/tasks/delete", _deleted),
    events.TaskOom: ("/tasks/oom", lambda e: wire.TaskOOM(container_id=e.container_id)),
    events.ExecAdded: (
        "/tasks/exec-added",
        lambda e: wire.TaskExecAdded(container_id=e.container_id, exec_id=e.exec_id),
    ),
    events.ExecStarted: (
        "/tasks/exec-started",
        lambda e: wire.TaskExecStarted(container_id=e.container_id, exec_id=e.exec_id, pid=e.pid),
    ),
    events.TaskPaused: ("/tasks/paused", lambda e: wire.TaskPaused(container_id=e.container_id)),
    events.TaskResumed: ("/tasks/resumed", lambda e: wire.TaskResumed(container_id=e.container_id)),
    events.TaskCheckpointed: (
        "/tasks/checkpointed",
        lambda e: wire.TaskCheckpointed(container_id=e.container_id, checkpoint=e.path),
    ),
}
