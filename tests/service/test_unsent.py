"""Events that nobody took to a shim's end, as the daemon finds them."""

from __future__ import annotations

import pytest
from support.coroutines import until
from support.events_service import unpacked

from shim.errors import DataLoss
from shim.process import Exit
from shim.proto.types_pb2 import Envelope
from shim.service import unsent
from shim.service.publisher import KEPT, Publisher
from shim.task import events


async def test_what_is_left_at_the_end_is_found_in_order(state_root):
    """Nobody serves the socket, and nobody ever has."""
    directory = unsent.directory_of(f"{state_root}/events.sock")
    for container in ("c1", "c2"):
        publisher = Publisher(f"{state_root}/events.sock", "ns", leave_in=directory)
        for number in range(3):
            publisher.publish(events.TaskStarted(container, number))
        assert publisher.describe() == {
            "address": f"{state_root}/events.sock", "waiting": 3, "sent": 0, "dropped": 0,
        }  # fmt: skip
        await publisher.close(0)
    found = [[unpacked(envelope) for envelope in unsent.read(path)] for path in unsent.found(directory)]
    assert [[(event.container_id, event.pid) for event in one] for one in found] == [
        [("c1", 0), ("c1", 1), ("c1", 2)],
        [("c2", 0), ("c2", 1), ("c2", 2)],
    ]


def test_only_so_many_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(unsent, "KEPT", 3)
    for number in range(5):
        unsent.leave(str(tmp_path), [Envelope(topic=f"/{number}")])
    left = [envelope.topic for path in unsent.found(str(tmp_path)) for envelope in unsent.read(path)]
    assert left == ["/2", "/3", "/4"]


def test_only_so_much_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(unsent, "KEPT_BYTES", 1000)
    for number in range(5):
        unsent.leave(str(tmp_path), [Envelope(topic=f"/{number}{'x' * 250}")])
    left = [envelope.topic[:2] for path in unsent.found(str(tmp_path)) for envelope in unsent.read(path)]
    assert left == ["/3", "/4"]
    unsent.leave(str(tmp_path), [Envelope(topic="x" * 2000)])
    (last,) = unsent.found(str(tmp_path))
    assert unsent.read(last)[0].topic == "x" * 2000, "the last is, whatever its size"


async def test_of_execs_only_so_many_ends_are_kept(state_root):
    """Of containers that go on without a daemon there may be any number."""
    publisher = Publisher(f"{state_root}/events.sock", "ns", leave_in=f"{state_root}/left")
    publisher.publish(events.TaskExited("c", "c", 1, Exit(7, 1)))
    for number in range(KEPT + 10):
        publisher.publish(events.TaskExited("c", f"e{number}", 2 + number, Exit(0, 1)))
    assert (len(publisher), publisher.dropped) == (KEPT, 11)
    await publisher.close(0)
    (path,) = unsent.found(f"{state_root}/left")
    pids = [unpacked(envelope).pid for envelope in unsent.read(path)]
    assert pids == [1, *range(13, KEPT + 12)]


async def test_nobody_is_waited_for_who_is_not_there(state_root):
    publisher = Publisher(f"{state_root}/events.sock", "ns", leave_in=f"{state_root}/left")
    publisher.publish(events.TaskStarted("c", 1))
    await until(lambda: publisher._complained)
    await publisher.close(3600)
    assert len(unsent.found(f"{state_root}/left")) == 1


async def test_nothing_left_is_no_file(state_root):
    directory = unsent.directory_of(f"{state_root}/events.sock")
    await Publisher(f"{state_root}/events.sock", "ns", leave_in=directory).close(0)
    assert unsent.found(directory) == []


@pytest.mark.parametrize(
    "content",
    ['{"schema": 1}', '{"schema": 1, "envelopes": ["!"]}', "{", '{"schema": 1, "envelopes": ["AAAA"]}'],
)
def test_what_is_broken_says_so(tmp_path, content):
    file = tmp_path / "1-2.json"
    file.write_text(content)
    with pytest.raises(DataLoss, match=r"1-2\.json is broken"):
        unsent.read(*unsent.found(str(tmp_path)))
