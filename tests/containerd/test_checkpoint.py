"""Checkpoint and restore by containerd's own client."""

from __future__ import annotations

import pytest
from support import bed
from support.containerd import Containerd

pytestmark = [pytest.mark.root, pytest.mark.criu, pytest.mark.usefixtures("settled")]

COUNT = "i=0; while :; do i=$((i+1)); echo $i > /new; mv /new /count; sleep 0.02; done"


def count(daemon: Containerd) -> int:
    done = daemon.ctr("task", "exec", "--exec-id", "e", "counter", "cat", "/count", check=False)
    return int(done.stdout or "0")


def remove(daemon: Containerd) -> None:
    daemon.ctr("task", "rm", "-f", "counter")
    daemon.ctr("container", "rm", "counter")


def test_a_counter_goes_on_counting(daemon: Containerd) -> None:
    daemon.run("counter", "sh", "-c", COUNT, options=("-d",))
    bed.until(lambda: count(daemon) > 5, "it does not count")
    daemon.ctr("container", "checkpoint", "--rw", "--task", "counter", "ocishim.test/checkpoint:1")
    reached = count(daemon)
    remove(daemon)
    daemon.ctr("container", "restore", "--rw", "--live", "counter", "ocishim.test/checkpoint:1")
    assert daemon.running() == ["counter"]
    bed.until(lambda: count(daemon) > reached, "it does not count")
    image = daemon.ctr("task", "checkpoint", "--exit", "counter").stdout.strip()
    assert image in daemon.ctr("image", "ls", "-q").stdout
    bed.until(lambda: not daemon.running(), "it runs on")
    remove(daemon)
