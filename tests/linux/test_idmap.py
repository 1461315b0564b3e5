"""Id-mapped mounts on this kernel: who owns a file depends on where it is seen."""

import errno
import os
from pathlib import Path

import pytest

from shim.linux import mountinfo
from shim.linux.idmap import parse_ranges
from shim.linux.mounts import Mount, mount_all, unmount_tree
from shim.linux.user_namespace import IdRange, user_namespace

pytestmark = pytest.mark.root

# What is 0 on disk is 1000 in the mount, of 100 ids.
MAPS = ("uidmap=0:1000:100", "gidmap=0:2000:100")


def owner(path):
    status = path.stat()
    return status.st_uid, status.st_gid


def places():
    return set(Path("/run").glob("ocishim-idmap-*"))


@pytest.fixture
def tree(tmp_path):
    fds = len(os.listdir("/proc/self/fd"))
    before = places()
    for name in ("rootfs", "source", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "file").write_text("x")
    os.chown(tmp_path / "source" / "file", 5, 6)
    yield tmp_path
    assert unmount_tree(str(tmp_path)) == []
    assert len(os.listdir("/proc/self/fd")) == fds
    assert places() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_bind_is_mapped(tree):
    rootfs = tree / "rootfs"
    mount_all([Mount("bind", str(tree / "source"), "", ("bind", *MAPS))], str(rootfs))
    assert owner(rootfs / "file") == (1005, 2006)
    assert len([e for e in mountinfo.read() if e.mount_point == str(rootfs)]) == 1
    os.chown(rootfs / "file", 1001, 2002)
    assert owner(tree / "source" / "file") == (1, 2)
    with pytest.raises(OSError, match="Value too large"):
        (rootfs / "of-a-user-that-has-no-place-there").touch()


def test_a_read_only_bind_is_mapped(tree):
    rootfs = tree / "rootfs"
    mount_all([Mount("bind", str(tree / "source"), "", ("rbind", "ro", *MAPS))], str(rootfs))
    assert owner(rootfs / "file") == (1005, 2006)
    with pytest.raises(OSError, match="Read-only file system"):
        (rootfs / "new").touch()


def test_ranges_with_commas(tree):
    maps = ("uidmap=0:1000:5,5:3000:1", "gidmap=0:0:10")
    mount_all([Mount("bind", str(tree / "source"), "", ("bind", *maps))], str(tree / "rootfs"))
    assert owner(tree / "rootfs" / "file") == (3000, 6)


def test_lower_directories_of_an_overlay_are_mapped(tree):
    rootfs = tree / "rootfs"
    other = tree / "a:b"
    other.mkdir()
    (other / "second").touch()
    lowers = f"{tree}/source:{tree}/a\\:b"
    options = (f"lowerdir={lowers}", f"upperdir={tree}/upper", f"workdir={tree}/work", *MAPS)
    mount_all([Mount("overlay", "overlay", "", options)], str(rootfs))
    assert owner(rootfs / "file") == (1005, 2006)
    assert owner(rootfs / "second") == (1000, 2000)
    (rootfs / "file").write_text("changed")
    assert owner(tree / "upper" / "file") == (1005, 2006)
    assert (tree / "source" / "file").read_text() == "x"


def test_what_cannot_be_mapped_is_not_mounted(tree):
    with pytest.raises(OSError, match=r"cannot mount proc proc: .* cannot be id-mapped") as caught:
        mount_all([Mount("proc", "proc", "", MAPS)], str(tree / "rootfs"))
    assert caught.value.errno == errno.EINVAL
    assert not os.path.ismount(tree / "rootfs")


def test_a_lower_directory_that_is_not_there(tree):
    lowers = f"lowerdir={tree}/source:{tree}/none"
    with pytest.raises(OSError, match="cannot mount overlay overlay: No such file"):
        mount_all([Mount("overlay", "overlay", "", (lowers, *MAPS))], str(tree / "rootfs"))


def test_parse_ranges():
    assert parse_ranges("0:1000:65536,65536:0:1") == [IdRange(0, 1000, 65536), IdRange(65536, 0, 1)]
    for bad in ("", "0:1", "0:1:2:3", "a:b:c", "-1:0:1", "0:1:2,"):
        with pytest.raises(OSError, match="is not inside:outside:size"):
            parse_ranges(bad)


def test_no_unshare(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OSError, match="unshare of util-linux is needed"):
        user_namespace([IdRange(0, 1, 1)], [IdRange(0, 1, 1)])


def test_no_user_namespaces(monkeypatch, tmp_path, tree):
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="no user namespace can be made here"):
        user_namespace([IdRange(0, 1, 1)], [IdRange(0, 1, 1)])
