"""containerd's limits, metrics and out-of-memory events where there are cgroup v2 controllers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import bed
from support.containerd import Containerd
from support.task_events import watching

pytestmark = [pytest.mark.root, pytest.mark.cgroup2, pytest.mark.usefixtures("settled")]


def group_of(pid: int) -> Path:
    line = Path(f"/proc/{pid}/cgroup").read_text().strip()
    return Path(f"{bed.CGROUP}{line.removeprefix('0::')}")


def test_limits_are_in_force_and_metrics_tell_of_them(daemon: Containerd) -> None:
    limits = ("--memory-limit", str(64 << 20), "--cpus", "0.5")
    daemon.run("limited", "sleep", "1000", options=("-d", *limits))
    pid = int(daemon.ctr("task", "list").stdout.splitlines()[1].split()[1])
    group = group_of(pid)
    assert (group / "memory.max").read_text() == f"{64 << 20}\n"
    assert (group / "cpu.max").read_text() == "50000 100000\n"
    metrics = json.loads(daemon.ctr("task", "metrics", "--format", "json", "limited").stdout)
    assert metrics["memory"]["usage_limit"] == 64 << 20
    assert metrics["pids"]["current"] == 1
    assert metrics["cpu"]["usage_usec"] > 0
    daemon.ctr("task", "rm", "-f", "limited", check=False)
    daemon.ctr("container", "rm", "limited")
    assert not group.exists()


def test_an_out_of_memory_kill_is_told_before_the_exit(daemon: Containerd) -> None:
    with watching(daemon) as events:
        done = daemon.run(
            "hungry", "tail", "/dev/zero", options=("--rm", "--memory-limit", str(16 << 20)), check=False
        )
        found = events.until("delete", "hungry")
    assert done.returncode == 137
    assert [topic for topic, _ in found] == ["create", "start", "oom", "exit", "delete"]
    assert found[3][1]["exit_status"] == 137
