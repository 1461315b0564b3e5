"""Files that stay open: what is read is what is there now."""

from __future__ import annotations

import os

import pytest

from shim.cgroup import files, tree
from shim.cgroup.files import GroupFiles
from shim.errors import ShimError


@pytest.fixture
def opened(tmp_path):
    with GroupFiles(str(tmp_path), unlimited=7) as found:
        yield found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_every_read_is_of_what_is_there_now(tmp_path, opened):
    file = tmp_path / "usage"
    for content in (b"1\n", b"22\n", b"", b"x" * (3 * tree.CHUNK), b"x" * tree.CHUNK):
        file.write_bytes(content)
        assert opened.content("usage") == content
    assert len(opened) == 1


def test_numbers_and_pairs(tmp_path, opened):
    for name, content in {"one": "12\n", "all": "max\n", "none": "", "pairs": "a 1\nb 2\n"}.items():
        (tmp_path / name).write_text(content)
    assert [opened.number(name) for name in ("one", "all", "none", "missing")] == [12, 7, 0, 0]
    assert opened.pairs("pairs") == {b"a": b"1", b"b": b"2"}
    assert opened.pairs("missing") == {}


def test_it_stays_open_until_close(tmp_path, opened):
    (tmp_path / "usage").touch()
    before = descriptors()
    opened.content("usage")
    opened.content("usage")
    assert descriptors() == before + 1
    opened.close()
    opened.close()
    assert descriptors() == before
    assert opened.content("usage") == b""


def test_what_is_missing_stays_missing_until_close(tmp_path, opened):
    assert opened.content("usage") == b""
    (tmp_path / "usage").write_text("1")
    assert opened.content("usage") == b""
    assert len(opened) == 0
    opened.close()
    assert opened.content("usage") == b"1"


def test_what_cannot_be_read_is_an_error(tmp_path, opened):
    (tmp_path / "usage").mkdir()
    with pytest.raises(ShimError, match="cannot be read"):
        opened.content("usage")


def test_above_the_bound_files_are_read_and_not_kept(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(files, "_MOST", GroupFiles._kept + 1)
    with GroupFiles(str(tmp_path), unlimited=0) as other:
        for name in ("a", "b", "c"):
            (tmp_path / name).write_text(name)
            assert opened.content(name) == other.content(name) == name.encode()
        assert other.content("missing") == b""
        assert (len(opened), len(other)) == (1, 0)
        opened.close()
        assert other.content("b") == b"b"
        assert len(other) == 1


@pytest.mark.root
def test_a_group_can_be_removed_while_its_files_are_open():
    top = next(p for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{p}/cgroup.procs"))
    group = f"{top}/ocishim-test-{os.getpid()}"
    os.mkdir(group)
    with GroupFiles(group, unlimited=0) as opened:
        try:
            assert opened.content("cgroup.events")
        finally:
            os.rmdir(group)
        assert opened.content("cgroup.events") == b""
