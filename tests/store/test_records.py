import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, ShimError
from shim.linux.mounts import mount, umount2
from shim.linux.statfs import in_memory
from shim.store import records


def open_fds():
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_round_trip_and_replacement(tmp_path):
    path = tmp_path / "record.json"
    records.save(path, {"id": "a", "pid": 7})
    assert records.load(path) == {"id": "a", "pid": 7}
    records.save(str(path), {"id": "b"})
    assert records.load(str(path)) == {"id": "b"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=30, deadline=None)
@given(record=st.dictionaries(st.text().filter(lambda key: key != "schema"), JSON))
def test_any_json_object_comes_back(tmp_path_factory, record):
    path = tmp_path_factory.getbasetemp() / "any.json"
    records.save(path, record)
    assert records.load(path) == record


def test_members_are_at_the_top_for_people_to_read(tmp_path):
    path = tmp_path / "exit.json"
    records.save(path, {"status": 137})
    assert json.loads(path.read_bytes()) == {"schema": 1, "status": 137}


def test_absent(tmp_path):
    with pytest.raises(NotFound, match=r"gone.json does not exist"):
        records.load(tmp_path / "gone.json")
    with pytest.raises(NotFound):
        records.load(tmp_path / "no" / "directory.json")


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"schema": 1, "a', b"\xff", b"[]", b"3", b"{}", b'{"schema": "1"}', b"[" * 100_000]
)
def test_broken(tmp_path, body):
    path = tmp_path / "record.json"
    path.write_bytes(body)
    with pytest.raises(DataLoss, match=r"record.json is broken"):
        records.load(path)


def test_of_a_newer_version(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"schema": 2}')
    with pytest.raises(FailedPrecondition, match="schema 2 of a newer ocishim"):
        records.load(path)


@pytest.mark.parametrize("record", [{"schema": 3}, {"a": float("nan")}])
def test_what_is_no_record_is_not_written(tmp_path, record):
    with pytest.raises(ValueError):
        records.save(tmp_path / "record.json", record)
    assert not list(tmp_path.iterdir())


def test_delete_twice(tmp_path):
    path = tmp_path / "record.json"
    records.save(path, {})
    records.delete(path)
    records.delete(path)
    records.delete(tmp_path / "no" / "directory.json")
    assert not list(tmp_path.iterdir())


def test_delete_of_a_directory(tmp_path):
    with pytest.raises(ShimError, match=f"cannot delete {tmp_path}"):
        records.delete(tmp_path)


def test_save_without_a_directory(tmp_path):
    with pytest.raises(NotFound, match=r"cannot save .*/no/record.json: No such file"):
        records.save(tmp_path / "no" / "record.json", {})


def test_load_through_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match=r"cannot read .*: Not a directory"):
        records.load(tmp_path / "file" / "record.json")


def test_full_disk_keeps_the_old_record_and_leaves_nothing(tmp_path):
    path = tmp_path / "record.json"
    records.save(path, {"old": True})
    before = open_fds()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ShimError, match=r"cannot save .*: File too large"):
            records.save(path, {"new": "x" * 10_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert records.load(path) == {"old": True}
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]
    assert open_fds() == before


def test_no_space_is_resource_exhausted(tmp_path, monkeypatch):
    def full(_fd):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceExhausted, match=r"record.json: No space left on device"):
        records.save(tmp_path / "record.json", {})
    assert not list(tmp_path.iterdir())


@pytest.fixture(params=["memory", "disk"])
def place(request, tmp_path):
    """A folder in memory, where the event loop does it, and one elsewhere, where a thread does."""
    if request.param == "disk":
        yield tmp_path
        return
    mount("none", str(tmp_path), "tmpfs", 0)
    yield tmp_path
    umount2(str(tmp_path), 0)


@pytest.mark.root
def test_away_from_the_event_loop_where_it_may_block(place, monkeypatch):
    path = place / "record.json"
    threads = []

    def fsync(_: int) -> None:
        threads.append(threading.current_thread() is threading.main_thread())

    monkeypatch.setattr(os, "fsync", fsync)

    async def main() -> None:
        await records.asave(path, {"a": 1})
        assert records.load(path) == {"a": 1}
        await records.adelete(path)
        with pytest.raises(NotFound, match="cannot save"):
            await records.asave(place / "none" / "record.json", {})

    asyncio.run(main())
    assert os.listdir(place) == []
    assert set(threads) == {in_memory(place)}


def test_what_is_not_synced_is_no_less_whole(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    monkeypatch.setattr(os, "fsync", None)
    records.save(path, {"a": 1}, synced=False)
    assert records.load(path) == {"a": 1}
    records.delete(path, synced=False)
    assert os.listdir(tmp_path) == []


# Ends itself, as kill -9 would, right before the n-th system call that matters; once for each n until one save ends.
CRASHER = """
import os, sys
from shim.store import records

left = int(sys.argv[2])

def crashing(call):
    def wrapper(*args, **kwargs):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return call(*args, **kwargs)
    return wrapper

for name in ("open", "fsync", "rename", "close"):
    setattr(os, name, crashing(getattr(os, name)))
records.save(sys.argv[1], {"version": "new"})
"""


def test_a_crash_at_any_step_leaves_the_old_record_or_the_new(tmp_path):
    path = tmp_path / "record.json"
    seen = []
    for step in range(20):
        records.save(path, {"version": "old"})
        crash = subprocess.run([sys.executable, "-c", CRASHER, path, str(step)], check=False)
        seen.append(records.load(path)["version"])
        if crash.returncode == 0:
            break
        assert crash.returncode == 9
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {"old", "new"}
    assert len(seen) >= 6


WRITER = """
import itertools, sys
from shim.store import records
for n in itertools.count():
    records.save(sys.argv[1], {"n": n, "again": n, "padding": "x" * 200_000})
    print(n, flush=True)
"""


def test_a_writer_killed_in_full_flight_leaves_a_whole_record(tmp_path):
    path = tmp_path / "record.json"
    for attempt in range(10):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
        for n in range(attempt + 1):
            assert writer.stdout.readline() == b"%d\n" % n
        writer.kill()
        writer.communicate()
        record = records.load(path)
        assert record["n"] == record["again"] >= attempt
        assert len(record["padding"]) == 200_000
