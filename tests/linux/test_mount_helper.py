"""Mounts that a program makes: what it is told, what it leaves in the background, and what becomes of its failure."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from shim.linux import mount_helper
from shim.linux.mounts import Mount, mount_all, unmount_tree

pytestmark = pytest.mark.root


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A mount.fuse3 of this body; what it was told is in the file ``told``."""
    for name in ("bin", "source", "rootfs"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def make(body: str) -> Path:
        program = tmp_path / "bin" / "mount.fuse3"
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\n{body}\n')
        program.chmod(0o755)
        return tmp_path

    yield make
    assert unmount_tree(str(tmp_path)) == []


def entry(top: Path, *options: str) -> Mount:
    return Mount("fuse3.thing", str(top / "source"), "", options)


def test_what_it_is_told(helper):
    """And that whatever serves the file system may keep its output open."""
    top = helper('mount --bind "$1" "$2"; echo $$ > "$2/pid"; sleep 1000 & echo $! > "$1/server"')
    mount_all([entry(top, "ro", "a=b")], str(top / "rootfs"))
    assert (top / "told").read_text() == f"{top}/source {top}/rootfs -o ro -o a=b -t thing\n"
    assert (top / "rootfs" / "pid").exists()
    os.kill(int((top / "source" / "server").read_text()), signal.SIGKILL)


def test_it_is_undone_when_a_later_one_fails(helper):
    top = helper('mount --bind "$1" "$2"')
    with pytest.raises(OSError, match="nosuchtype"):
        mount_all([entry(top), Mount("nosuchtype", "x", "")], str(top / "rootfs"))
    assert not (top / "rootfs").is_mount()


def test_one_that_mounts_nothing_says_why(helper):
    top = helper("echo no such thing >&2; exit 0")
    with pytest.raises(OSError, match=r"cannot mount fuse3\.thing .*: no such thing") as raised:
        mount_all([entry(top)], str(top / "rootfs"))
    assert raised.value.errno == errno.EIO


def test_one_that_hangs_is_killed(helper, monkeypatch):
    monkeypatch.setattr(mount_helper, "_DONE_S", 0.05)
    top = helper("sleep 1000 & echo $! > $1/hanging; wait")
    with pytest.raises(OSError, match=r"killed after 0\.05 s"):
        mount_all([entry(top)], str(top / "rootfs"))


def test_without_a_helper(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match=r"mount\.fuse is needed"):
        mount_all([Mount("fuse.sshfs", "x", "")], str(tmp_path))
