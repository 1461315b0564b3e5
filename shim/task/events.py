"""What happens to containers, told in order to whoever publishes it.

The order of telling is the order of publishing. It holds that a start is told before the exit, the exits of execs before the
exit of the init, an out-of-memory kill before the exit, and the delete last. See ``Container`` and ``Ending`` for how.

Source: containerd api/events/task.proto, of which these have the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from shim.linux.mounts import Mount
    from shim.process import Exit
    from shim.stdio import Streams

__all__ = [
    "Event",
    "ExecAdded",
    "ExecStarted",
    "TaskCheckpointed",
    "TaskCreated",
    "TaskDeleted",
    "TaskExited",
    "TaskOom",
    "TaskPaused",
    "TaskResumed",
    "TaskStarted",
]


@dataclass(frozen=True, slots=True)
class TaskCreated:
    """The container exists; ``pid`` is 0 when Start will restore it."""

    container_id: str
    bundle: str
    rootfs: tuple[Mount, ...]
    streams: Streams
    checkpoint: str
    pid: int


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """The init runs."""

    container_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class ExecAdded:
    """An exec is registered."""

    container_id: str
    exec_id: str


@dataclass(frozen=True, slots=True)
class ExecStarted:
    """An exec runs."""

    container_id: str
    exec_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class TaskExited:
    """A process has ended; ``id`` is the container's for the init, else the exec's."""

    container_id: str
    id: str
    pid: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class TaskDeleted:
    """The container is gone; ``exit`` is None when it never ran."""

    container_id: str
    pid: int
    exit: Exit | None


@dataclass(frozen=True, slots=True)
class TaskOom:
    """The kernel killed in the container for want of memory."""

    container_id: str


@dataclass(frozen=True, slots=True)
class TaskPaused:
    """Every process is frozen."""

    container_id: str


@dataclass(frozen=True, slots=True)
class TaskResumed:
    """Every process runs again."""

    container_id: str


@dataclass(frozen=True, slots=True)
class TaskCheckpointed:
    """An image of the container is in ``path``."""

    container_id: str
    path: str


Event: TypeAlias = (
    TaskCreated
    | TaskStarted
    | ExecAdded
    | ExecStarted
    | TaskExited
    | TaskDeleted
    | TaskOom
    | TaskPaused
    | TaskResumed
    | TaskCheckpointed
)
