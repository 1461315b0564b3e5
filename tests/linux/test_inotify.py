import select
from pathlib import Path

import pytest

from shim.linux.inotify import FileWatch


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "log"
    path.write_text("one\n")
    return path


def readable(watch, timeout_ms=0):
    poll = select.poll()
    poll.register(watch.fileno(), select.POLLIN)
    return bool(poll.poll(timeout_ms))


def test_writes_wake_up_once_until_drained(file):
    with FileWatch(file) as watch, file.open("a") as writer:
        assert not readable(watch)
        for _ in range(3):
            writer.write("two\n")
            writer.flush()
        assert readable(watch, 5000)
        assert watch.drain()
        assert not readable(watch)
        assert not watch.drain()


def test_rename_and_unlink_wake_up(file):
    with FileWatch(str(file)) as watch, file.open("a"):
        renamed = file.rename(file.with_name("log.1"))
        assert readable(watch, 5000)
        watch.drain()
        renamed.unlink()
        assert readable(watch, 5000)


def test_an_absent_file_leaves_no_descriptor(tmp_path):
    before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    for _ in range(20):
        with pytest.raises(FileNotFoundError) as caught:
            FileWatch(tmp_path / "none")
        assert caught.value.filename == str(tmp_path / "none")
    assert {entry.name for entry in Path("/proc/self/fd").iterdir()} == before


def test_close_twice(file):
    watch = FileWatch(file)
    watch.close()
    watch.close()
    with pytest.raises(ValueError, match="closed"):
        watch.fileno()


def test_any_of_several_files(tmp_path):
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.touch()
    with FileWatch(*files) as watch:
        assert not watch.drain()
        for file in files:
            file.unlink()
            assert watch.drain()
