"""Ends that are told before, after, of others, and never."""

from __future__ import annotations

import pytest

from shim.client import Container, Event, Process
from shim.client.ends import End, Ends
from shim.errors import FailedPrecondition, NotFound


def running(name: str, pid: int, status: str = "running") -> Container:
    return Container(id=name, status=status, processes=[Process(pid=pid)])


def event(kind: str, name: str, pid: int, status: int = 0, after: str = "") -> Event:
    containers = [Container(id=name, status=after)] if after else []
    return Event(type=kind, id=name, pid=pid, status=status, containers=containers)


def taken(ends: Ends, *events: Event) -> list[End]:
    for one in events:
        ends.take(one)
    return ends.over()


def test_what_runs_ends_later():
    ends = Ends(["c1", "c2"], [running("c1", 5), running("c2", 6, "paused")])
    ends.check()
    assert ends.over() == []
    assert taken(ends, event("exit", "c1", 7, 3), event("exit", "other", 5, 3)) == [], "an exec, and another"
    assert taken(ends, event("exit", "c2", 6, 137)) == [("c2", 137)]
    assert ends
    assert taken(ends, event("exit", "c1", 5, 4), event("exit", "c2", 6, 9)) == [("c1", 4)]
    assert not ends


def test_what_ended_between_state_and_events():
    ends = Ends(["c1"], [running("c1", 5)])
    for one in (event("create", "c1", 5), event("exit", "c1", 5, 4), event("delete", "c1", 5, 4)):
        ends.take(one)
    ends.check()
    assert ends.over() == [("c1", 4)]


def test_an_earlier_life_is_another():
    ends = Ends(["c1"], [running("c1", 9)])
    for one in (event("create", "c1", 5), event("exit", "c1", 5, 4), event("delete", "c1", 5)):
        ends.take(one)
    ends.check()
    assert ends.over() == []
    assert taken(ends, event("create", "c1", 9), event("exit", "c1", 9, 1)) == [("c1", 1)]


def test_what_is_gone_is_remembered_by_its_last_life():
    ends = Ends(["c1"], [])
    for pid, status in ((5, 4), (6, 7)):
        for kind in ("create", "start-container", "exit", "delete"):
            ends.take(event(kind, "c1", pid, status))
    ends.check()
    assert ends.over() == [("c1", 7)]


def test_what_is_gone_and_began_before_all_that_is_kept():
    ends = Ends(["c1"], [])
    ends.take(event("exit", "c1", 8, 2, after="running"))
    ends.take(event("exit", "c1", 5, 3, after="stopped"))
    ends.check()
    assert ends.over() == [("c1", 3)]


def test_what_is_just_being_made_is_waited_for():
    ends = Ends(["c1"], [])
    ends.take(event("create", "c1", 5))
    ends.check()
    assert taken(ends, event("start-container", "c1", 5)) == []
    assert taken(ends, event("exit", "c1", 5, 1)) == [("c1", 1)]


def test_what_is_restored_has_no_pid_at_first():
    ends = Ends(["c1"], [])
    for one in (event("create", "c1", 5), event("exit", "c1", 5, 4), event("create", "c1", 0)):
        ends.take(one)
    ends.check()
    assert taken(ends, event("exit", "c1", 5, 4)) == [], "an exec of that pid"
    assert taken(ends, event("start-container", "c1", 6), event("exit", "c1", 6, 1)) == [("c1", 1)]


def test_what_nothing_tells_of():
    with pytest.raises(NotFound, match="c1 does not exist"):
        Ends(["c1"], [running("c2", 5)]).check()
    with pytest.raises(FailedPrecondition, match="c1 has ended"):
        Ends(["c1"], [Container(id="c1", status="stopped")]).check()


def test_what_has_just_ended_is_told_of_later():
    """A daemon knows from the shim that it has ended before the shim has told it."""
    ends = Ends(["c1"], [Container(id="c1", status="stopped")])
    assert ends.late()
    ends.take(event("create", "c1", 5))
    assert not ends.late()
    ends.check()
    assert ends.over() == []
    assert taken(ends, event("exit", "c1", 5, 3)) == [("c1", 3)]
    assert not Ends(["c1"], [running("c1", 5), Container(id="c2", status="stopped")]).late()
