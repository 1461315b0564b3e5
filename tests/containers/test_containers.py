from __future__ import annotations

import os
import stat

import pytest

from shim.containers.containers import Containers, Record
from shim.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound, ShimError, Unavailable
from shim.store import records


def _record(container_id="c1", **changes):
    fields = {
        "id": container_id,
        "bundle": "/b",
        "created_at": "2026-01-01T00:00:00Z",
        "address": "unix:///nowhere/x.sock",
        "shim_pid": 2**22 + 1,
        "shim_started": 1,
        "runtime": "runc",
        "terminal": False,
        "interactive": False,
        "log_file": "",
        "auto_remove": False,
    }
    return Record(**{**fields, **changes})


def test_a_claim_makes_a_directory_that_nobody_else_can_enter(tmp_path):
    old = os.umask(0)
    try:
        container = Containers(str(tmp_path / "state")).claim("c1")
    finally:
        os.umask(old)
    for directory in (container.directory, container.directory.parent, tmp_path / "state"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_an_id_is_claimed_once(tmp_path):
    containers = Containers(str(tmp_path))
    containers.claim("c1")
    with pytest.raises(AlreadyExists, match=r"container c1 exists already; .*ocishim delete c1"):
        containers.claim("c1")
    containers.get("c1").remove()
    containers.claim("c1")


def test_a_state_directory_that_is_none_is_named_with_a_hint(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(
        ShimError, match=r"state directory .*/state/containers cannot be used: .*--state-root"
    ):
        Containers(str(tmp_path / "state")).claim("c1")


def test_unknown_ids_are_named_with_the_place(tmp_path):
    with pytest.raises(
        NotFound, match=rf"container c9 does not exist in {tmp_path}/containers; .*ocishim list"
    ):
        Containers(str(tmp_path)).get("c9")


def test_ids_are_sorted_and_none_without_a_state_directory(tmp_path):
    containers = Containers(str(tmp_path / "later"))
    assert containers.ids() == []
    for name in ("b", "a", "c"):
        containers.claim(name)
    assert containers.ids() == ["a", "b", "c"]
    assert [c.id for c in containers.choose(())] == ["a", "b", "c"]
    assert [c.id for c in containers.choose(("c", "a"))] == ["c", "a"]


def test_a_record_comes_back_as_it_was_saved(tmp_path):
    container = Containers(str(tmp_path)).claim("c1")
    container.save(_record())
    assert container.record() == _record()


def test_a_container_without_a_record_is_being_made(tmp_path):
    container = Containers(str(tmp_path)).claim("c1")
    with pytest.raises(FailedPrecondition, match=r"being made, .*delete --force c1"):
        container.record()


def test_a_record_of_another_shape_is_broken(tmp_path):
    container = Containers(str(tmp_path)).claim("c1")
    records.save(container.directory / "record.json", {"id": "c1"})
    with pytest.raises(DataLoss, match=r"record\.json has other members"):
        container.record()


def test_the_exit_record_is_the_shims(tmp_path):
    container = Containers(str(tmp_path)).claim("c1")
    assert container.exit_record() is None
    records.save(container.directory / "exit.json", {"status": 3, "exited_at_ns": 5, "oom_killed": True})
    ended = container.exit_record()
    assert ended is not None
    assert (ended.status, ended.exited_at_ns, ended.oom_killed) == (3, 5, True)


def test_a_shim_that_is_gone_is_said_to_be(tmp_path):
    container = Containers(str(tmp_path)).claim("c1")
    container.save(_record())
    with pytest.raises(Unavailable, match=r"the shim of container c1 is gone; .*ocishim state c1"):
        container.connect()


def test_removing_works_twice(tmp_path):
    container = Containers(str(tmp_path)).claim("c1")
    container.remove()
    container.remove()
    assert Containers(str(tmp_path)).ids() == []
