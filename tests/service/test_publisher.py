"""Events on their way to containerd: what they say, and what becomes of them while it is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from support.coroutines import until
from support.events_service import EventsService, containerd, unpacked

from shim.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from shim.linux.mounts import Mount
from shim.process import Exit
from shim.proto.types_pb2 import Envelope
from shim.service import publisher as module
from shim.service.event_messages import envelope
from shim.service.publisher import KEPT, Publisher
from shim.stdio import Streams
from shim.task import events

__all__ = ["containerd"]  # a fixture

EXIT = Exit(7, 1_700_000_000_000_000_009)


def started(count: int, container: str = "c") -> list[events.Event]:
    """Events that their numbers tell apart."""
    return [events.TaskStarted(container, number) for number in range(count)]


def numbers(service: EventsService, container: str = "c") -> list[int]:
    return [event.pid for _, event in service.messages() if event.container_id == container]


@asynccontextmanager
async def publishing(address: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(address, "ns")
    try:
        yield publisher
    finally:
        await publisher.close(0)


@pytest.fixture
def publisher(containerd: EventsService, monkeypatch: pytest.MonkeyPatch):
    """One whose tries follow each other at once."""
    monkeypatch.setattr(module, "_FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(module, "_MAX_DELAY_S", 0.01)
    return publishing(str(containerd.path))


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], int]:
    """How many lines have these words; in all with none."""
    caplog.set_level(logging.INFO, logger=module.__name__)
    return lambda words: sum(words in line for line in caplog.messages)


# What they say: topic, type and fields, as the fact sheet of containerd has them.


@pytest.mark.parametrize(
    ("event", "topic", "fields"),
    [
        (events.TaskStarted("c", 5), "start", {"container_id": "c", "pid": 5}),
        (events.TaskOom("c"), "oom", {"container_id": "c"}),
        (events.TaskPaused("c"), "paused", {"container_id": "c"}),
        (events.TaskResumed("c"), "resumed", {"container_id": "c"}),
        (events.ExecAdded("c", "e"), "exec-added", {"container_id": "c", "exec_id": "e"}),
        (events.ExecStarted("c", "e", 6), "exec-started", {"container_id": "c", "exec_id": "e", "pid": 6}),
        (events.TaskCheckpointed("c", "/i"), "checkpointed", {"container_id": "c", "checkpoint": "/i"}),
        (
            events.TaskExited("c", "e", 6, EXIT),
            "exit",
            {"container_id": "c", "id": "e", "pid": 6, "exit_status": 7, "exited_at": EXIT.exited_at_ns},
        ),
        (
            events.TaskDeleted("c", 5, EXIT),
            "delete",
            {"container_id": "c", "pid": 5, "exit_status": 7, "exited_at": EXIT.exited_at_ns},
        ),
        (events.TaskDeleted("c", 5, None), "delete", {"container_id": "c", "pid": 5}),
    ],
)
def test_messages(event, topic, fields):
    made = envelope(event, "ns", 3_000_000_001)
    assert (made.namespace, made.topic) == ("ns", f"/tasks/{topic}")
    assert (made.timestamp.seconds, made.timestamp.nanos) == (3, 1)
    found = {
        field.name: value.ToNanoseconds() if field.name == "exited_at" else value
        for field, value in unpacked(made).ListFields()
    }
    assert found == fields


def test_the_message_of_create():
    streams = Streams("/in", "/out", "/err", terminal=False)
    mounts = (Mount("overlay", "overlay", "", ("lowerdir=/l", "ro")),)
    made = unpacked(envelope(events.TaskCreated("c", "/b", mounts, streams, "/image", 5), "ns", 1))
    assert (made.container_id, made.bundle, made.checkpoint, made.pid) == ("c", "/b", "/image", 5)
    assert (made.io.stdin, made.io.stdout, made.io.stderr, made.io.terminal) == ("/in", "/out", "/err", False)
    (mount,) = made.rootfs
    assert (mount.type, mount.source, list(mount.options)) == ("overlay", "overlay", ["lowerdir=/l", "ro"])


# How they go.


async def test_they_come_in_order_and_name_the_namespace(publisher: Publisher, containerd):
    before = time.time_ns()
    for event in started(200):
        publisher.publish(event)
    await publisher.close(10)
    assert numbers(containerd) == list(range(200))
    assert publisher.sent == 200
    assert containerd.namespaces == {"ns"}
    stamps = [message.timestamp.ToNanoseconds() for message in containerd.envelopes]
    assert before <= stamps[0]
    assert stamps == sorted(stamps)


async def test_answers_of_the_same_moment_leave_before_an_event(monkeypatch):
    said = []

    class Client:
        closed = False

        async def connect(self, *_):
            return self

        async def call(self, *_, **__):
            said.append("event")

        def close(self):
            pass

    monkeypatch.setattr(module, "AsyncClient", Client())
    async with publishing("/events") as publisher:
        publisher.publish(events.TaskOom("c"))
        await until(lambda: said)
        said.clear()
        publisher.publish(events.TaskOom("c"))
        for _ in range(3):  # as long as the answer of Wait takes after the exit of an exec
            await asyncio.sleep(0)
        said.append("answer")
        await publisher.close(10)
    assert said == ["answer", "event"]


async def test_they_are_kept_while_containerd_is_away(publisher: Publisher, containerd, logged):
    first, *others = started(100)
    publisher.publish(first)
    await until(lambda: publisher.sent == 1)
    for outages in (1, 2, 3):
        containerd.close()
        for event in others[:33]:
            publisher.publish(event)
        del others[:33]
        await until(lambda outages=outages: logged("events wait") == outages)
        containerd.open()
        await until(lambda: not len(publisher))
    assert numbers(containerd) == list(range(100))
    assert logged("events wait") == logged("are taken again") == 3


async def test_they_are_kept_until_containerd_comes_for_the_first_time(publisher: Publisher, containerd):
    containerd.close()
    for event in started(10):
        publisher.publish(event)
    await until(lambda: publisher._complained)
    containerd.open()
    await publisher.close(10)
    assert numbers(containerd) == list(range(10))


async def test_one_that_is_tried_again_is_not_overtaken(publisher: Publisher, containerd):
    def fails_at_first(sent: Envelope) -> None:
        if containerd.asked % 3:
            raise FailedPrecondition("not yet")

    containerd.answer = fails_at_first
    for event in started(10):
        publisher.publish(event)
    await until(lambda: not len(publisher))
    assert numbers(containerd) == list(range(10))
    assert containerd.asked == 30


async def test_no_answer_in_time_is_tried_again(publisher: Publisher, containerd, monkeypatch):
    monkeypatch.setattr(module, "_CALL_S", 0.05)
    containerd.answer = lambda _: time.sleep(0.2) if containerd.asked == 1 else None
    publisher.publish(events.TaskOom("c"))
    await until(lambda: not len(publisher))
    # The first may have come as well: whoever listens has to bear an event twice.
    assert set(containerd.topics()) == {"oom"}


@pytest.mark.parametrize("kind", [InvalidArgument, ResourceExhausted])
async def test_one_that_is_refused_is_not_tried_again(publisher: Publisher, containerd, logged, kind):
    def refuses_the_first(_: Envelope) -> None:
        if containerd.asked == 1:
            raise kind("no")

    containerd.answer = refuses_the_first
    for event in started(3):
        publisher.publish(event)
    await until(lambda: not len(publisher))
    assert numbers(containerd) == [1, 2]
    assert containerd.asked == 3
    assert (publisher.sent, publisher.dropped) == (2, 1)
    assert logged("TaskStarted of container c cannot be sent: no") == 1


async def test_one_that_is_too_large_holds_up_nobody(publisher: Publisher, containerd):
    """A Create may have 4 MiB of mounts; the event that repeats them does not fit any more."""
    mounts = (Mount("overlay", "x" * (4 << 20), "", ()),)
    publisher.publish(events.TaskCreated("c", "/b", mounts, Streams(), "", 1))
    publisher.publish(events.TaskStarted("c", 1))
    await until(lambda: not len(publisher))
    assert containerd.topics() == ["start"]


# How many are kept.


async def test_each_container_has_its_share(publisher: Publisher, containerd, logged):
    """The oldest go first, but no end ever does, and nothing of another container."""
    containerd.close()
    ends = [events.TaskOom("c"), events.TaskExited("c", "c", 1, EXIT), events.TaskDeleted("c", 1, EXIT)]
    quiet = started(3, "quiet")
    for event in [*quiet, *ends, *started(KEPT + 50)]:
        publisher.publish(event)
    assert len(publisher) == KEPT + len(quiet)
    assert publisher.dropped == 50 + len(ends)
    await until(lambda: logged("events wait"))
    containerd.open()
    await publisher.close(20)
    assert numbers(containerd, "quiet") == [0, 1, 2]
    assert containerd.topics()[3:6] == ["oom", "exit", "delete"]
    told = [event.pid for topic, event in containerd.messages() if topic == "/tasks/start"][3:]
    assert told == list(range(50 + len(ends), KEPT + 50))
    assert logged("wait: its oldest are dropped") == 1
    assert logged(f"{publisher.dropped} were dropped") == 1


async def test_ends_are_kept_whatever_their_number(publisher: Publisher, containerd):
    containerd.close()
    for number in range(KEPT + 100):
        publisher.publish(events.TaskExited("c", f"e{number}", 1, EXIT))
    assert len(publisher) == KEPT + 100
    assert publisher.dropped == 0


# Ends of the publisher itself.


async def test_close_waits_for_what_is_left(publisher: Publisher, containerd):
    for event in started(20):
        publisher.publish(event)
    await publisher.close(10)
    assert numbers(containerd) == list(range(20))
    await until(lambda: containerd.connections == 0)


async def test_close_does_not_wait_for_ever(publisher: Publisher, containerd, logged):
    containerd.close()
    for event in started(5):
        publisher.publish(event)
    await publisher.close(0.01)
    assert logged("5 events were never sent") == 1


@pytest.mark.parametrize("address", ["", "tcp://1.2.3.4", "/" + "x" * 200])
async def test_without_a_usable_address_nothing_is_kept(address, logged):
    async with publishing(address) as publisher:
        for event in started(10):
            publisher.publish(event)
        assert len(publisher) == 0
        assert publisher.dropped == 0
    assert logged("") == logged("events go nowhere") == bool(address)


async def test_an_address_with_a_scheme(containerd):
    async with publishing(f"unix://{containerd.path}") as publisher:
        publisher.publish(events.TaskOom("c"))
        await publisher.close(10)
    assert containerd.topics() == ["oom"]
