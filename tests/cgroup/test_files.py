"""Files that stay open: what is read is what is there now."""

from __future__ import annotations

import errno
import os

import pytest

from shim.cgroup import files, tree
from shim.cgroup.files import OpenFiles


@pytest.fixture
def opened():
    found = OpenFiles()
    yield found
    found.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_every_read_is_of_what_is_there_now(tmp_path, opened):
    file = tmp_path / "usage"
    for content in (b"1\n", b"22\n", b"", b"x" * (3 * tree.CHUNK), b"x" * tree.CHUNK):
        file.write_bytes(content)
        assert opened.read(str(file)) == content
    assert len(opened) == 1


def test_it_stays_open_until_close(tmp_path, opened):
    (tmp_path / "usage").touch()
    before = descriptors()
    opened.read(f"{tmp_path}/usage")
    opened.read(f"{tmp_path}/usage")
    assert descriptors() == before + 1
    opened.close()
    opened.close()
    assert descriptors() == before
    assert opened.read(f"{tmp_path}/usage") == b""


def test_what_is_missing_stays_missing(tmp_path, opened):
    path = f"{tmp_path}/usage"
    with pytest.raises(FileNotFoundError):
        opened.read(path)
    (tmp_path / "usage").touch()
    with pytest.raises(FileNotFoundError, match="usage"):
        opened.read(path)
    assert len(opened) == 0


def test_above_the_bound_files_are_read_and_not_kept(tmp_path, opened, monkeypatch):
    other = OpenFiles()
    monkeypatch.setattr(files, "_MOST", OpenFiles._kept + 1)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
        assert opened.read(f"{tmp_path}/{name}") == name.encode()
        assert other.read(f"{tmp_path}/{name}") == name.encode()
    assert (len(opened), len(other)) == (1, 0)
    opened.close()
    assert other.read(f"{tmp_path}/b") == b"b"
    assert len(other) == 1
    other.close()


@pytest.mark.root
def test_a_group_can_be_removed_while_its_files_are_open(opened):
    top = next(p for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{p}/cgroup.procs"))
    group = f"{top}/ocishim-test-{os.getpid()}"
    os.mkdir(group)
    try:
        assert opened.read(f"{group}/cgroup.procs") == b""
    finally:
        os.rmdir(group)
    with pytest.raises(OSError) as caught:
        opened.read(f"{group}/cgroup.procs")
    assert caught.value.errno == errno.ENODEV
