"""How containers end, as the events of a daemon tell it: those that it keeps, and then those that come.

The first API has no call for it, and has forgotten a container soon after its end. So the order matters: first State, then
the stream with all that is kept. What State has running ends by its pid, told before or after; of what it has not, the events tell.

Source: the first API; shim/grpc_api/task_events.py for what is in an Event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shim.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shim.proto.first_api_pb2 import Container, Event

__all__ = ["End", "Ends"]


class End(NamedTuple):
    """A container has ended."""

    id: str
    status: int
    """128 + n where signal n ended it; 255 where nobody saw."""


class _Life:
    """The last life of a container, as far as is known."""

    def __init__(self) -> None:
        self.pid = 0
        self.status: int | None = None
        self.told = False
        """Whether there was an event of it."""

    def take(self, event: Event) -> None:
        self.told = True
        if event.type in {"create", "start-container"}:
            # A create has none where a checkpoint is to be restored.
            self.pid, self.status = event.pid, None
        elif event.type == "exit" and self._is_of_init(event):
            self.status = event.status

    def _is_of_init(self, event: Event) -> bool:
        if self.pid:
            return event.pid in {0, self.pid}
        return any(each.status == "stopped" for each in event.containers)


class Ends:
    """Of ``container_ids``, given what State said before the events were subscribed to."""

    def __init__(self, container_ids: Iterable[str], state: Iterable[Container]) -> None:
        self._seen = {each.id: each for each in state}
        self._lives = {name: _Life() for name in container_ids}

    def take(self, event: Event) -> None:
        """One event, in their order."""
        if (life := self._lives.get(event.id)) is not None:
            life.take(event)

    def late(self) -> bool:
        """Whether one has ended of which no event has told: a shim tells one event after the other, once each is stored."""
        return any(self._has_ended(name) and not life.told for name, life in self._lives.items())

    def _has_ended(self, name: str) -> bool:
        return name in self._seen and self._seen[name].status == "stopped"

    def check(self) -> None:
        """Every end can come. To be called once, when all events were taken that are kept.

        Raises:
            NotFound: there is no such container, and none is remembered.
            FailedPrecondition: it ended so long ago that nothing tells how.
        """
        for name, life in self._lives.items():
            seen = self._seen.get(name)
            if seen is None and not life.told:
                raise NotFound(f"container {name} does not exist there, nor do the events tell of one")
            if self._has_ended(name) and not life.told:
                raise FailedPrecondition(
                    f"container {name} has ended; how is not among the events that are kept"
                )
            if seen is not None and seen.processes and seen.processes[0].pid != life.pid:
                life.pid, life.status = seen.processes[0].pid, None

    def over(self) -> list[End]:
        """Those that have ended; each once."""
        found = [End(name, life.status) for name, life in self._lives.items() if life.status is not None]
        for end in found:
            del self._lives[end.id]
        return found

    def __bool__(self) -> bool:
        """Whether there are others."""
        return bool(self._lives)
