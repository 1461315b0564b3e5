"""What is said of containers whose shim is gone: from disk alone."""

from __future__ import annotations

import pytest

from shim.containers.containers import Containers, Record
from shim.containers.snapshot import look, timestamp
from shim.store import records


@pytest.fixture
def container(tmp_path):
    return Containers(str(tmp_path)).claim("c1")


@pytest.fixture
def dead(container, tmp_path):
    container.save(
        Record(
            "c1",
            "/b",
            "2026-01-01T00:00:00Z",
            f"unix://{tmp_path}/s",
            1,
            1,
            "runc",
            False,
            False,
            "/log",
            False,
        )
    )
    return container


def test_without_a_record_it_is_being_made(container):
    seen = look(container)
    assert (seen.id, seen.status, seen.pid) == ("c1", "creating", 0)
    assert "delete --force c1" in seen.note


def test_with_a_broken_record_nothing_is_known(container):
    (container.directory / "record.json").write_text("{")
    seen = look(container)
    assert seen.status == "unknown"
    assert "record.json is broken" in seen.note


def test_without_its_shim_it_may_still_run(dead):
    seen = look(dead)
    assert (seen.status, seen.exit_status, seen.shim_pid) == ("unknown", None, 0)
    assert (seen.bundle, seen.runtime, seen.log_file) == ("/b", "runc", "/log")
    assert seen.status_text() == "unknown"
    assert "delete --force c1" in seen.note


def test_an_exit_that_was_written_down_counts(dead):
    records.save(dead.directory / "exit.json", {"status": 137, "exited_at_ns": 10**18, "oom_killed": True})
    seen = look(dead)
    assert (seen.status, seen.exit_status, seen.oom_killed) == ("stopped", 137, True)
    assert seen.exited_at == "2001-09-09T01:46:40Z"
    assert seen.status_text() == "stopped (137, out of memory)"
    assert "ocishim delete c1" in seen.note


def test_timestamps_are_rfc_3339():
    assert timestamp(1_700_000_000_500_000_000) == "2023-11-14T22:13:20.500000Z"
