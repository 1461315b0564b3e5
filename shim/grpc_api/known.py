"""What the events that were told say of the containers: which there are, and which of their processes run.

It is what makes an end told once. A shim sends an event again when it has not heard that it was taken, and what nobody saw
end is told by ``reconcile.py``: either is a repetition when the process has ended here before. Processes go by their pids,
which is all that an Event says of them, so that the same can be made anew of events that were stored. A container that was deleted is
remembered for a while: who looked at it a moment before would tell its end once more.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shim.proto.first_api_pb2 import Event

__all__ = [
    "CHECKPOINT",
    "CREATE",
    "DELETE",
    "EXIT",
    "OOM",
    "PAUSE",
    "RESUME",
    "START",
    "START_PROCESS",
    "Known",
    "KnownContainer",
]

# As the first containerd had them; create, checkpoint and delete, which it did not tell, are in their manner.
CREATE = "create"
START = "start-container"
START_PROCESS = "start-process"
EXIT = "exit"
PAUSE = "pause"
RESUME = "resume"
OOM = "oom"
CHECKPOINT = "checkpoint"
DELETE = "delete"

_REMEMBERED = 200
_STATUS = {CREATE: "created", START: "running", PAUSE: "paused", RESUME: "running"}


@dataclass(slots=True)
class KnownContainer:
    """One container."""

    bundle: str = ""
    pid: int = 0
    status: str = "created"
    exit_status: int = 0
    execs: set[int] = field(default_factory=set)

    @property
    def ended(self) -> bool:
        """Whether the end of its init was told."""
        return self.status == "stopped"


class Known:
    """All of them, by id."""

    def __init__(self) -> None:
        self._containers: dict[str, KnownContainer] = {}
        self._deleted: dict[str, int] = {}
        """The last of them, by id: their pids."""

    def __iter__(self) -> Iterator[tuple[str, KnownContainer]]:
        return iter(list(self._containers.items()))

    def get(self, container_id: str) -> KnownContainer | None:
        """The container of that id, unless it was never told of, or deleted."""
        return self._containers.get(container_id)

    def repeats(self, event: Event) -> bool:
        """Whether ``event`` is the end of what has ended, or is not known to be there."""
        found = self._containers.get(event.id)
        if event.type == DELETE:
            return found is None
        if event.type != EXIT:
            return False
        if found is None:
            return event.id in self._deleted and event.pid in {0, self._deleted[event.id]}
        if event.pid == found.pid or not event.pid:
            return found.ended
        return event.pid not in found.execs

    def status_after(self, event: Event) -> str:
        """That of the container, once ``event`` has happened."""
        found = self._containers.get(event.id, KnownContainer())
        if event.type == EXIT:
            return found.status if event.pid in found.execs else "stopped"
        return _STATUS.get(event.type, found.status)

    def apply(self, event: Event) -> None:
        """``event`` has happened."""
        if event.type == DELETE:
            self._delete(event)
            return
        if event.type == CREATE:
            self._deleted.pop(event.id, None)
            self._containers[event.id] = KnownContainer()
        found = self._containers.setdefault(event.id, KnownContainer())
        status = self.status_after(event)
        found.bundle = event.bundlePath or found.bundle
        if event.type == EXIT:
            self._ended(found, event)
            return
        if event.type == START_PROCESS:
            found.execs.add(event.pid)
        elif event.type in {CREATE, START}:
            found.pid = event.pid or found.pid
        if not found.ended:
            found.status = status

    def _delete(self, event: Event) -> None:
        found = self._containers.pop(event.id, None)
        self._deleted[event.id] = found.pid if found is not None else event.pid
        while len(self._deleted) > _REMEMBERED:
            del self._deleted[next(iter(self._deleted))]

    @staticmethod
    def _ended(found: KnownContainer, event: Event) -> None:
        if event.pid in found.execs:
            found.execs.discard(event.pid)
            return
        found.pid = event.pid or found.pid
        found.status, found.exit_status = "stopped", event.status
        found.execs.clear()

    def to_data(self) -> dict[str, Any]:
        """As JSON has it."""
        containers = {name: {**asdict(c), "execs": sorted(c.execs)} for name, c in self._containers.items()}
        return {"containers": containers, "deleted": dict(self._deleted)}

    def restore(self, data: Mapping[str, Any]) -> None:
        """All is as when ``to_data`` made ``data``."""
        self._containers = {
            name: KnownContainer(
                str(c["bundle"]),
                int(c["pid"]),
                str(c["status"]),
                int(c.get("exit_status", 0)),
                set(c["execs"]),
            )
            for name, c in data["containers"].items()
        }
        self._deleted = dict(data["deleted"])
