"""The files of a bundle, and the limits that configuration lays into it."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from shim.config import Config
from shim.errors import FailedPrecondition, InvalidArgument, NotFound, ShimError
from shim.process import Exit
from shim.store import records
from shim.task.bundle import Bundle, limits_of, short_directory

SPEC = {"ociVersion": "1.0.2", "process": {"args": ["true"], "cwd": "/"}, "root": {"path": "rootfs"}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SPEC))
    return Bundle(tmp_path)


def test_config_json_is_read_and_checked(folder):
    spec = folder.load_spec()
    assert spec.process["args"] == ["true"]
    (folder.path / "config.json").write_text("{")
    with pytest.raises(InvalidArgument, match=f"^config.json of {folder.path}"):
        folder.load_spec()
    (folder.path / "config.json").unlink()
    with pytest.raises(NotFound, match=f"config.json of {folder.path} does not exist"):
        folder.load_spec()


def test_a_config_json_that_is_no_file_is_told_apart(folder):
    (folder.path / "config.json").unlink()
    (folder.path / "config.json").mkdir()
    with pytest.raises(ShimError, match=r"^config\.json of \S+ cannot be read: Is a directory$"):
        folder.load_spec()


def test_config_json_is_replaced_as_a_whole(folder):
    with (folder.path / "config.json").open() as old:
        folder.save_spec({**SPEC, "hostname": "new"})
        assert "hostname" not in json.load(old)
    assert folder.load_spec().raw["hostname"] == "new"
    assert os.listdir(folder.path) == ["config.json"]


def test_a_failed_save_leaves_the_old_config_json(tmp_path):
    folder = Bundle(tmp_path / "gone")
    with pytest.raises(NotFound, match=r"config\.json of .*gone cannot be written"):
        folder.save_spec(SPEC)


def test_the_root_filesystem_has_to_be_a_directory(folder):
    spec = folder.load_spec()
    with pytest.raises(NotFound, match=r"root\.path .*/rootfs of .* does not exist"):
        folder.check_rootfs(spec)
    folder.rootfs.write_text("")
    with pytest.raises(FailedPrecondition, match="is not a directory"):
        folder.check_rootfs(spec)
    folder.rootfs.unlink()
    folder.rootfs.mkdir()
    folder.check_rootfs(spec)


def test_the_pid_that_the_runtime_left(folder):
    with pytest.raises(NotFound, match="left no pid"):
        folder.read_pid("init")
    folder.pid_file("init").write_text("17\n")
    assert folder.read_pid("init") == 17
    folder.remove_pid("init")
    folder.remove_pid("init")
    assert not folder.pid_file("init").exists()
    folder.pid_file("init").write_text("seventeen")
    with pytest.raises(NotFound, match="left no pid"):
        folder.read_pid("init")


def test_the_exit_is_a_record(folder):
    asyncio.run(folder.save_exit(Exit(137, 1234, 9), oom_killed=True))
    assert records.load(folder.exit_record) == {"status": 137, "exited_at_ns": 1234, "oom_killed": True}


def test_limits_become_resources():
    assert limits_of(Config()) == {}
    assert limits_of(Config(cpu_nanos=500_000_000, memory_bytes=1 << 20)) == {
        "cpu": {"quota": 50_000, "period": 100_000},
        "memory": {"limit": 1 << 20},
    }
    with pytest.raises(InvalidArgument, match="1000000"):
        limits_of(Config(cpu_nanos=1))


def test_the_directory_of_console_sockets_is_private_and_short(tmp_path, state_root):
    path = short_directory(str(state_root))
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert short_directory(str(state_root)) == path
    with pytest.raises(InvalidArgument, match="too long for unix sockets"):
        short_directory("/" + "x" * 90)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match="cannot be made"):
        short_directory(str(tmp_path / "file"))
