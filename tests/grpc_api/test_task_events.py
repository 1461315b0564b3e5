"""containerd's events of tasks as the first API's."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.grpc_api import task_events
from shim.process import Exit
from shim.proto.events_pb2 import TaskStart
from shim.proto.types_pb2 import Envelope
from shim.service.event_messages import envelope
from shim.stdio import Streams
from shim.task import events

CREATED = events.TaskCreated("c", "/b", (), Streams("", "", "", terminal=False), "", 5)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (CREATED, {"type": "create", "id": "c", "pid": 5, "bundlePath": "/b"}),
        (events.TaskStarted("c", 5), {"type": "start-container", "id": "c", "pid": 5}),
        (events.ExecStarted("c", "e", 6), {"type": "start-process", "id": "c", "pid": 6}),
        (events.TaskExited("c", "c", 5, Exit(0, 9)), {"type": "exit", "id": "c", "pid": 5}),
        (events.TaskExited("c", "e", 6, Exit(7, 9)), {"type": "exit", "id": "c", "pid": 6, "status": 7}),
        (
            events.TaskExited("c", "e", 6, Exit(137, 9)),
            {"type": "exit", "id": "c", "pid": 6, "status": 137, "signal": 9},
        ),
        (events.TaskExited("c", "c", 5, Exit(255, 9)), {"type": "exit", "id": "c", "pid": 5, "status": 255}),
        (events.TaskDeleted("c", 5, Exit(3, 9)), {"type": "delete", "id": "c", "pid": 5, "status": 3}),
        (events.TaskDeleted("c", 5, None), {"type": "delete", "id": "c", "pid": 5}),
        (events.TaskOom("c"), {"type": "oom", "id": "c"}),
        (events.TaskPaused("c"), {"type": "pause", "id": "c"}),
        (events.TaskResumed("c"), {"type": "resume", "id": "c"}),
        (
            events.TaskCheckpointed("c", "/images/one/"),
            {"type": "checkpoint", "id": "c", "checkpoint": {"name": "one"}},
        ),
    ],
)
def test_events(event, expected):
    event, key = task_events.read(envelope(event, "ns", 1_700_000_000_000_000_009))
    assert MessageToDict(event) == expected
    assert key.endswith(" 1700000000000000009")


def test_what_the_first_api_has_not():
    assert task_events.read(envelope(events.ExecAdded("c", "e"), "ns", 1)) is None


def test_keys_tell_apart_what_differs_and_nothing_else():
    made = [
        envelope(events.TaskExited("c", "c", 5, Exit(0, 9)), "ns", 1),
        envelope(events.TaskExited("c", "e", 6, Exit(0, 9)), "ns", 1),
        envelope(events.TaskExited("d", "d", 5, Exit(0, 9)), "ns", 1),
        envelope(events.TaskStarted("c", 5), "ns", 1),
        envelope(events.TaskPaused("c"), "ns", 1),
        envelope(events.TaskPaused("c"), "ns", 2),
    ]
    keys = [task_events.read(one).key for one in made]
    assert len(set(keys)) == len(made)
    assert keys == [task_events.read(one).key for one in made]


def start(type_url: str, value: bytes) -> Envelope:
    return Envelope(topic="/tasks/start", namespace="ns", event=AnyMessage(type_url=type_url, value=value))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (start("containerd.events.TaskExit", b""), "with an event of type"),
        (start("containerd.events.TaskStart", b"\xff"), "cannot be decoded"),
        (start("containerd.events.TaskStart", TaskStart(pid=3).SerializeToString()), "names no container"),
    ],
)
def test_what_is_no_event(made, words):
    with pytest.raises(InvalidArgument, match=words):
        task_events.read(made)


@given(
    st.sampled_from(["/tasks/exit", "/tasks/create", "/x", ""]), st.text(max_size=40), st.binary(max_size=60)
)
def test_anything_is_an_event_or_an_invalid_argument(topic, type_url, value):
    made = Envelope(topic=topic, event=AnyMessage(type_url=type_url, value=value))
    try:
        told = task_events.read(made)
    except InvalidArgument:
        return
    assert told is None or told.event.id
