"""What this machine can test: probed once, asked by fixtures and by the collection hooks of conftest.py.

A test bed has parts: root, the OCI runtimes, cgroup v2 controllers, the sample root filesystem. A test that needs a
part calls ``need``; without the part it is skipped with a sentence that says how to get it, and conftest.py turns that
skip into a failure where ``CI=true``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from shim.linux.namespaces import CLONE_NEWNET, apart, unshare

CHECKOUT = Path(__file__).resolve().parents[2]
ROOTFS = CHECKOUT / "bundles" / "rootfs"
CGROUP = Path("/sys/fs/cgroup")


def in_ci() -> bool:
    return os.environ.get("CI") == "true"


def scaled(count: int) -> int:
    """As many as this run is to do of what CI does ``count`` times; one at least."""
    return max(1, int(count * float(os.environ.get("OCISHIM_SCALE", "1"))))


def need(part: object, reason: str) -> None:
    """Skip the running test for ``reason`` unless ``part`` is there (a failure in CI)."""
    if not part:
        pytest.skip(reason)


def is_root() -> bool:
    return os.geteuid() == 0


def need_runtime(name: str) -> str:
    """The absolute path of the OCI runtime ``name``; skips without it."""
    path = shutil.which(name)
    need(path, f"{name} is not installed: apt-get install {name}")
    assert path is not None
    return path


@cache
def cgroup2_controllers() -> frozenset[str]:
    """The v2 controllers that can be used under /sys/fs/cgroup; empty on legacy and hybrid hosts."""
    try:
        return frozenset((CGROUP / "cgroup.controllers").read_text().split())
    except FileNotFoundError:
        return frozenset()


def has_cgroup2() -> bool:
    return {"cpu", "memory"} <= cgroup2_controllers()


@cache
def has_links() -> bool:
    """Whether the kernel has every kind of interface that containers are given."""

    def attempt() -> bool:
        unshare(CLONE_NEWNET)
        made = "ip link add u0 type dummy && ip link add link u0 type vlan id 2 && ip link add link u0 type ipvlan"
        return subprocess.run(["sh", "-c", made], capture_output=True, check=False).returncode == 0

    return is_root() and apart(attempt)


@cache
def has_criu() -> bool:
    """Whether criu can write a process to an image; one that is older than the kernel cannot, whatever its ``check`` says."""
    if not (is_root() and shutil.which("criu")):
        return False
    with (
        tempfile.TemporaryDirectory(prefix="ocishim-criu-") as images,
        subprocess.Popen(
            ["sleep", "60"],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as sleeper,
    ):
        dump = ["criu", "dump", "--tree", str(sleeper.pid), "--images-dir", images]
        done = subprocess.run(dump, capture_output=True, check=False)
        sleeper.kill()
    return done.returncode == 0


@cache
def has_docker() -> bool:
    """Whether there is a Docker that runs containers with any shim, as those since 23 do."""
    if not (is_root() and shutil.which("dockerd") and shutil.which("docker")):
        return False
    version = subprocess.run(["dockerd", "--version"], stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.search(r"version (\d+)\.", version)
    return found is not None and int(found[1]) >= 23


@cache
def has_containerd2() -> bool:
    """Whether containerd is there and knows sandboxes that a shim makes, and user namespaces, as it does from 2.0 on."""
    if shutil.which("containerd") is None:
        return False
    version = subprocess.run(
        ["containerd", "--version"], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    return int(version.split()[2].lstrip("v").partition(".")[0]) >= 2


@cache
def has_steady_runsc() -> bool:
    """Whether runsc is there and not Debian's of July 2024, which panics at random, and for sure after a restore."""
    if shutil.which("runsc") is None:
        return False
    return (
        b"20240729" not in subprocess.run(["runsc", "--version"], stdout=subprocess.PIPE, check=False).stdout
    )


@cache
def rootfs() -> Path:
    """The sample root filesystem, built when it is not there."""
    if not (ROOTFS / "bin" / "busybox").exists():
        subprocess.run(["make", "--silent", "bundles/rootfs"], cwd=CHECKOUT, check=True)
    return ROOTFS


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Wait for ``condition``, asked again and again; fails with ``what`` when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
