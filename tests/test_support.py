"""The leak counter finds each kind of thing it claims to find, and nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import bed, leaks
from support.mounts import mount_points, unmount_below


@pytest.fixture
def short_settle(monkeypatch):
    monkeypatch.setattr(leaks, "SETTLE_S", 0.1)


def left(before, state_root=None):
    return [str(item) for item in leaks.left_since(before, state_root)]


def test_nothing_left_is_nothing_found(state_root):
    before = leaks.snapshot(state_root)
    assert leaks.left_since(before, state_root) == []


def test_a_child_is_found_and_killed(short_settle):
    before = leaks.snapshot()
    with subprocess.Popen(["sleep", "60"]) as child:
        items = leaks.left_since(before)
        leaks.kill(items)
        assert [i.pid for i in items if isinstance(i, leaks.Process)] == [child.pid]
        assert child.wait() == -9


@pytest.mark.parametrize("by", ["environment", "state root"])
def test_an_orphan_is_found_by_its(by, short_settle, state_root):
    before = leaks.snapshot(state_root)
    if by == "environment":
        argv, env = ["sleep", "60"], None
    else:
        argv, env = ["tail", "-f", "/dev/null", f"--pid={os.getpid()}", state_root / "absent"], {}
    subprocess.run(["/usr/bin/setsid", "--fork", *argv], env=env, check=True, stderr=subprocess.DEVNULL)
    items = leaks.left_since(before, state_root)
    leaks.kill(items)
    assert len([i for i in items if isinstance(i, leaks.Process)]) == 1


def test_descriptors_sockets_and_files_are_found(short_settle, state_root):
    before = leaks.snapshot(state_root)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(state_root / "s"))
        os.mkfifo(state_root / "fifo")
        names = left(before, state_root)
    assert f"file {state_root}/s" in names
    assert f"file {state_root}/fifo" in names
    assert any(name.startswith("fd ") and "socket:" in name for name in names)


@pytest.mark.root
def test_mounts_are_found_and_cleared(short_settle, state_root):
    before = leaks.snapshot()
    inner = state_root / "with space"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
    assert any(str(item).endswith(f"on {inner}") for item in leaks.left_since(before))
    unmount_below(state_root)
    assert str(inner) not in mount_points().values()


def test_a_bundle_has_the_rootfs_and_the_changes(bundle):
    config = json.loads(
        (bundle(["true"], process={"cwd": "/tmp"}, hostname=None) / "config.json").read_text()
    )
    assert config["process"]["args"] == ["true"]
    assert config["process"]["cwd"] == "/tmp"
    assert leaks.MARK in config["process"]["env"]
    assert Path(config["root"]["path"]) == bed.ROOTFS
    assert "hostname" not in config


@pytest.fixture
def run_pytest(tmp_path):
    """Runs a file of tests under conftest.py, in or out of CI; returns the exit status and the output."""

    def run(text, ci):
        file = tmp_path / "test_it.py"
        file.write_text(f"import pytest\n{text}")
        own = {"CI": "true"} if ci else {}
        env = {**os.environ, "CI": "", **own, "PYTHONPATH": str(bed.CHECKOUT / "tests")}
        options = [
            "-p",
            "conftest",
            "-p",
            "no:cacheprovider",
            "-o",
            "markers=cgroup2",
            "-rs",
            "--rootdir",
            tmp_path,
        ]
        command = [sys.executable, "-m", "pytest", *options, file]
        result = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
        return result.returncode, result.stdout

    return run


@pytest.mark.parametrize(
    ("ci", "status", "said"),
    [
        (False, 0, "1 passed, 1 skipped"),
        (True, 1, "skipped, which CI does not allow: Skipped: no crane here"),
    ],
)
def test_a_skip_is_a_failure_in_ci(ci, status, said, run_pytest):
    text = 'def test_a(): pytest.skip("no crane here")\ndef test_b(): pass'
    returncode, output = run_pytest(text, ci)
    assert returncode == status
    assert said in output


def test_cgroup2_tests_are_deselected_where_there_is_no_v2(run_pytest):
    returncode, output = run_pytest("@pytest.mark.cgroup2\ndef test_a(): pass\ndef test_b(): pass", ci=True)
    assert returncode == 0
    assert ("1 cgroup2 tests deselected" in output) is not bed.has_cgroup2()


def test_a_leak_fails_the_test_and_is_named(run_pytest):
    returncode, output = run_pytest(
        'import os\nfrom support import leaks as l\nl.SETTLE_S = 0.1\ndef test_a(leaks): os.open("/dev/null", os.O_RDONLY)',
        ci=False,
    )
    assert returncode == 1
    assert "left behind:\n  fd " in output
