"""Every storage keeps the same promises."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from shim.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unimplemented
from shim.store import storage as module
from shim.store.storage import FileStorage, LevelDBStorage, open_storage

KINDS = ["filesystem", "leveldb"]


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    return open_storage(request.param, tmp_path / "kept")


def test_three_verbs(storage):
    with pytest.raises(NotFound):
        storage.load("a/b")
    storage.delete("a/b")
    storage.save("a/b", {"n": 1, "text": "ä"})
    storage.save("a/c", {})
    assert storage.load("a/b") == {"n": 1, "text": "ä"}
    storage.save("a/b", {"n": 2})
    assert storage.load("a/b") == {"n": 2}
    storage.delete("a/b")
    storage.delete("a/b")
    with pytest.raises(NotFound):
        storage.load("a/b")
    assert storage.load("a/c") == {}


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "a\0", "a\n", "x" * 129]
)
def test_names_that_lead_elsewhere(storage, key, tmp_path):
    for call in (lambda: storage.save(key, {}), lambda: storage.load(key), lambda: storage.delete(key)):
        with pytest.raises(InvalidArgument, match="no name of a record"):
            call()
    assert not (tmp_path / "a.json").exists()


WRITER = """
import sys
from pathlib import Path
from shim.store.storage import open_storage
storage = open_storage(sys.argv[1], Path(sys.argv[2]))
for number in range(int(sys.argv[4])):
    storage.save(sys.argv[3], {"number": number, "text": "x" * 5000})
"""


@pytest.mark.parametrize("kind", KINDS)
def test_several_processes(kind, storage, tmp_path):
    command = [sys.executable, "-c", WRITER, kind, str(tmp_path / "kept")]
    writers = [subprocess.Popen([*command, key, "20"]) for key in ("one", "two", "one")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    again = open_storage(kind, tmp_path / "kept")
    assert again.load("one")["number"] == again.load("two")["number"] == 19


@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_that_is_killed(kind, tmp_path):
    storage = open_storage(kind, tmp_path / "kept")
    storage.save("one", {"number": -1, "text": ""})
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(tmp_path / "kept"), "one", "100000"]
        ) as writer:
            before = storage.load("one")["number"]
            while storage.load("one")["number"] == before:
                assert writer.poll() is None
            writer.kill()
        assert storage.load("one")["text"] == "x" * 5000


def test_what_is_broken(tmp_path):
    files = FileStorage(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataLoss, match="is broken"):
        files.load("a")
    (tmp_path / "a.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(FailedPrecondition, match="of a newer ocishim"):
        files.load("a")


def test_a_database_that_is_broken(tmp_path):
    database = LevelDBStorage(tmp_path)
    database.save("a", {})
    (tmp_path / "leveldb" / "CURRENT").write_text("nonsense")
    with pytest.raises((DataLoss, FailedPrecondition), match="the database in"):
        database.load("a")


def test_others_are_entry_points(tmp_path, monkeypatch):
    made = EntryPoint("mine", "shim.store.storage:FileStorage", "ocishim.storage")

    def entry_points(*, group, name="mine"):
        return [made] if (group, name) == ("ocishim.storage", "mine") else []

    monkeypatch.setattr(module, "entry_points", entry_points)
    assert isinstance(open_storage("mine", tmp_path), FileStorage)
    with pytest.raises(InvalidArgument, match="storage 'x': use one of filesystem, leveldb, mine"):
        open_storage("x", tmp_path)


def test_without_plyvel(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(Unimplemented, match="pip install"):
        open_storage("leveldb", tmp_path)
