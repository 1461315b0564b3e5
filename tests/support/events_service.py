"""containerd's Events service as shims see it, which keeps what it is told; it comes and goes as a test likes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from support import bed
from support.serving import Method, Running

from shim.proto import events_pb2
from shim.proto.events_service_pb2 import ForwardRequest
from shim.proto.types_pb2 import Envelope
from shim.transport.server import CallContext

SERVICE = "containerd.services.events.ttrpc.v1.Events"


class EventsService:
    """``envelopes`` has everything that was forwarded, in order; ``answer`` may raise what is to be answered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.envelopes: list[Envelope] = []
        self.namespaces: set[str | None] = set()
        self.asked = 0
        self.answer: Callable[[Envelope], None] = lambda _: None
        self._running: Running | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Clients are served from now on."""
        self._running = Running(
            self.path, {"Forward": Method(self._forward, ForwardRequest)}, service=SERVICE
        )

    def close(self) -> None:
        """Nobody listens. Idempotent."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    @property
    def connections(self) -> int:
        assert self._running is not None
        return self._running.server.connections

    async def _forward(self, request: ForwardRequest, context: CallContext) -> Empty:
        self.asked += 1
        self.answer(request.envelope)
        self.envelopes.append(request.envelope)
        self.namespaces.add(context.namespace)
        return Empty()

    def messages(self) -> list[tuple[str, Any]]:
        """Topic and event of each."""
        return [(envelope.topic, unpacked(envelope)) for envelope in list(self.envelopes)]

    def topics(self) -> list[str]:
        return [envelope.topic.removeprefix("/tasks/") for envelope in list(self.envelopes)]

    def until(self, topic: str) -> None:
        """An event of that topic has come."""
        bed.until(lambda: topic in self.topics(), f"no {topic} came: {self.topics()}")


def unpacked(envelope: Envelope) -> Any:
    """The event, by its type's bare name."""
    package, _, name = envelope.event.type_url.rpartition(".")
    assert package == "containerd.events"
    return getattr(events_pb2, name).FromString(envelope.event.value)


@pytest.fixture
def containerd(state_root: Path) -> Iterator[EventsService]:
    """One that serves, in the state directory of the test."""
    service = EventsService(state_root / "ttrpc")
    service.open()
    yield service
    service.close()
