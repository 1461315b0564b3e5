"""Moves that are announced: a thread that moves to where it is, one at a time, where that is possible."""

from __future__ import annotations

import _thread
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from shim.cgroup import migration
from shim.cgroup.hierarchy import Hierarchy, Mount, detect, membership_of
from shim.cgroup.migration import Migration


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The time, as ``now``."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(migration, "time", clock)
    return clock


@pytest.fixture
def threads(monkeypatch) -> list:
    """What the threads do that have been started, and which end when they are called."""
    started: list = []
    fake = SimpleNamespace(
        start_new_thread=lambda call, _: started.append(call), get_native_id=_thread.get_native_id
    )
    monkeypatch.setattr(migration, "_thread", fake)
    return started


@pytest.fixture
def group(tmp_path) -> Path:
    """A directory that stands for the v2 group in which we are; its parent for the mount point."""
    path = tmp_path / "mount" / (membership_of("self").unified or "").strip("/")
    path.mkdir(parents=True, exist_ok=True)
    return path


def of(group: Path) -> Migration:
    mount = str(group).removesuffix((membership_of("self").unified or "").rstrip("/"))
    return Migration(Hierarchy("unified", Mount(mount)))


needs_v2 = pytest.mark.skipif(membership_of("self").unified is None, reason="no cgroup v2 on this host")


@needs_v2
def test_a_thread_is_named_and_not_the_process(clock, threads, group):
    file = group / "cgroup.threads"
    file.touch()
    of(group).expect()
    thread = threading.Thread(target=threads.pop())
    thread.start()
    thread.join()
    assert file.read_text() == str(thread.native_id)


@needs_v2
def test_one_at_a_time_and_not_again_at_once(clock, threads, group):
    (group / "cgroup.threads").touch()
    moves = of(group)
    moves.expect()
    clock.now += 60
    moves.expect()
    assert len(threads) == 1, "while the first one waits there is no other"
    threads.pop()()
    moves.expect()
    assert len(threads) == 1
    threads.pop()()
    clock.now += 0.009
    moves.expect()
    assert not threads
    clock.now += 0.002
    moves.expect()
    assert len(threads) == 1


@needs_v2
def test_where_it_is_not_possible_it_is_not_tried_again(clock, threads, group):
    moves = of(group)
    moves.expect()
    threads.pop()()
    assert not moves.possible
    clock.now += 60
    moves.expect()
    assert not threads


def test_without_cgroups_nothing_happens(clock, threads):
    moves = Migration(Hierarchy("none"))
    moves.expect()
    threads.pop()()
    assert not moves.possible


def test_no_thread_to_be_had_is_no_error(clock, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    moves = Migration(Hierarchy("none"))
    with monkeypatch.context() as patch:
        patch.setattr(migration, "_thread", SimpleNamespace(start_new_thread=refuse))
        moves.expect()
    started: list = []
    monkeypatch.setattr(migration, "_thread", SimpleNamespace(start_new_thread=lambda *_: started.append(1)))
    clock.now += 1
    moves.expect()
    assert started, "it is tried again"


def hierarchies() -> list[Hierarchy]:
    """Those of this host, each alone."""
    found = detect()
    alone = [Hierarchy("legacy", legacy={name: mount}) for name, mount in found.legacy.items()]
    return [*alone, *([Hierarchy("unified", found.unified)] if found.unified else [])]


@pytest.mark.root
@pytest.mark.guest
def test_the_kernel_takes_it_and_nothing_has_moved(threads):
    before = Path("/proc/self/cgroup").read_text()
    after: list[str] = []

    def move() -> None:
        threads.pop()()
        after.append(Path("/proc/thread-self/cgroup").read_text())

    for hierarchy in hierarchies():
        moves = Migration(hierarchy)
        moves.expect()
        thread = threading.Thread(target=move)
        thread.start()
        thread.join()
        assert moves.possible, hierarchy
    assert set(after) == {before} == {Path("/proc/self/cgroup").read_text()}
