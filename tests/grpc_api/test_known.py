"""What is known of containers by their events, and which ends are repetitions."""

from __future__ import annotations

from shim.grpc_api.known import Known
from shim.proto.first_api_pb2 import Event


def event(kind: str, pid: int = 0, container: str = "c") -> Event:
    return Event(type=kind, id=container, pid=pid, bundlePath="/b")


def known_after(*events: Event) -> Known:
    known = Known()
    for one in events:
        known.apply(one)
    return known


LIFE = [
    event("create", 10),
    event("start-container", 10),
    event("start-process", 11),
    event("start-process", 12),
    event("exit", 11),
]


def test_a_life():
    statuses = []
    known = Known()
    for one in [*LIFE, event("pause"), event("oom"), event("resume"), event("exit", 10)]:
        known.apply(one)
        statuses.append(known.get("c").status)
    assert statuses == ["created", *["running"] * 4, "paused", "paused", "running", "stopped"]
    assert known.get("c").ended
    known.apply(event("delete", 10))
    assert known.get("c") is None


def test_an_end_is_told_once():
    known = known_after(*LIFE)
    assert known.get("c").execs == {12}
    assert known.repeats(event("exit", 11))
    assert not known.repeats(event("exit", 12))
    assert not known.repeats(event("exit", 10))
    known.apply(event("exit", 10))
    assert all(known.repeats(event("exit", pid)) for pid in (10, 12, 0))
    assert not known.repeats(event("delete"))
    known.apply(event("delete"))
    assert known.repeats(event("delete"))
    assert all(known.repeats(event("exit", pid)) for pid in (10, 0))
    assert not known.repeats(event("exit", 20)), "one of the same name that nobody has told of"
    known.apply(event("create", 10))
    assert not known.repeats(event("exit", 10))


def test_what_was_never_heard_of_may_end():
    assert not Known().repeats(event("exit", 10))
    known = known_after(event("exit", 10))
    assert known.repeats(event("exit", 10))


def test_a_namesake_is_another_one():
    known = known_after(*LIFE, event("exit", 10), event("create", 20))
    assert (known.get("c").status, known.get("c").execs) == ("created", set())
    assert not known.repeats(event("exit", 20))


def test_what_is_restored_has_its_pid_from_its_start():
    known = known_after(event("create", 0), event("start-container", 30))
    assert not known.repeats(event("exit", 30))
    known.apply(event("exit", 30))
    assert known.get("c").ended


def test_it_is_the_same_after_a_restart():
    known = known_after(*LIFE, event("create", 40, "d"), event("create", 50, "e"), event("delete", 50, "e"))
    restored = Known()
    restored.restore(known.to_data())
    assert list(restored) == list(known)
    assert restored.repeats(event("exit", 50, "e"))


def test_not_all_that_were_deleted_are_remembered():
    known = known_after(*(event("delete", n, f"c{n}") for n in range(1, 1001)))
    assert len(known.to_data()["deleted"]) == 200
    assert known.repeats(event("exit", 1000, "c1000"))
