"""What users of shims suffer from, with a real containerd; the whole list is in tests/integration/test_user_pains.py."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from support import bed
from support.containerd import IMAGE, RUNTIME, Containerd
from support.mounts import mount_points, unmount_below
from support.shims import Connection

from shim.bootstrap.listener import containerd_socket
from shim.bootstrap.start import SOCKET_DIR

pytestmark = pytest.mark.root


def bundle_of(daemon: Containerd, name: str) -> Path:
    return daemon.folder / "state" / "io.containerd.runtime.v2.task" / daemon.namespace / name


def test_a_root_filesystem_that_is_busy_is_detached(daemon: Containerd, settled: None) -> None:
    """A process of the host stands in it. It keeps what it sees, and nobody else does."""
    daemon.run("busy", "sleep", "100", options=("-d",))
    rootfs = bundle_of(daemon, "busy") / "rootfs"
    with subprocess.Popen(["sleep", "100"], cwd=rootfs) as stranger:
        daemon.ctr("task", "rm", "-f", "busy")
        daemon.ctr("container", "rm", "busy")
        assert str(rootfs) not in mount_points().values()
        assert os.listdir(f"/proc/{stranger.pid}/cwd")
        stranger.kill()

    def said() -> int:
        return daemon.log.read_text().count(f"{rootfs} was busy and is detached")

    # What a shim logs comes by a FIFO, and containerd writes it down in its own time.
    bed.until(said, "nothing is said of it")
    assert said() == 1


def test_containerd_is_killed_again_and_again(own_daemon: Containerd) -> None:
    """Every shim is asked by every containerd, and answers; every container is what it was."""
    names = [f"again{number}" for number in range(bed.scaled(5))]
    for name in names:
        own_daemon.run(name, "sleep", "1000", options=("-d",))
    shims = sorted(own_daemon.shims())
    tasks = sorted(own_daemon.ctr("task", "list").stdout.splitlines())
    for _ in range(bed.scaled(3)):
        own_daemon.kill()
        own_daemon.start()
        assert sorted(own_daemon.ctr("task", "list").stdout.splitlines()) == tasks
    assert sorted(own_daemon.shims()) == shims
    for name in names:
        with Connection((bundle_of(own_daemon, name) / "address").read_text()) as connection:
            assert connection.call("Connect", id=name).shim_pid in shims


def test_ctr_is_killed_at_any_moment(daemon: Containerd, settled: None, tmp_path: Path) -> None:
    """What containerd makes of it is containerd's to delete; a shim that it has forgotten ends by itself."""
    before = daemon.shim_config.read_text()
    daemon.shim_config.write_text(f"{before}idle_timeout = 2.0\n")
    dice = random.Random(20261127)
    names = [f"cut{number}" for number in range(bed.scaled(10))]
    for name in names:
        words = daemon.command("run", "--runtime", RUNTIME, IMAGE, name, "sleep", "1000")
        # ctr itself mounts the image for a moment, to read who its user is.
        env = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as ctr:
            time.sleep(dice.random() * 0.4)
            ctr.kill()
    unmount_below(tmp_path)
    for name in names:
        # A task may come into being after its client has gone; without one the container can go.
        bed.until(lambda name=name: removed(daemon, name), f"{name} stays")
    daemon.shim_config.write_text(before)
    sockets = [containerd_socket(SOCKET_DIR, str(daemon.socket), daemon.namespace, name) for name in names]
    bed.until(lambda: not any(map(os.path.exists, sockets)), "a socket stays")
    tops = [bed.CGROUP, *bed.CGROUP.iterdir()]
    assert not [top for top in tops for name in names if (top / daemon.namespace / name).exists()]


def removed(daemon: Containerd, name: str) -> bool:
    daemon.ctr("task", "rm", "-f", name, check=False)
    daemon.ctr("container", "rm", name, check=False)
    listed = (
        daemon.ctr("container", "list", "-q").stdout.split() + daemon.ctr("task", "list", "-q").stdout.split()
    )
    return name not in listed
