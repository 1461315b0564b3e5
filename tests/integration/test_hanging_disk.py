"""A disk hangs: whoever has to wait for it waits, and nobody else does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client_streams import until
from support.disks import Disk, small_disk
from support.shims import Container, Shim

from shim.store import records

pytestmark = pytest.mark.root


@pytest.fixture
def disk(shim: Shim, tmp_path: Path) -> Iterator[Disk]:
    """It is thawed before the shim takes away what a test has left."""
    with small_disk(tmp_path) as disk:
        yield disk


def assert_served(shim: Shim) -> None:
    """Another container lives its life, and its output arrives."""
    streams = shim.streams(stderr=True)
    other = shim.running(["sh", "-c", "echo out; echo err >&2; exit 3"], streams=streams)
    assert other.wait() == 3
    other.delete()
    assert (streams.read(), streams.read("stderr")) == (b"out\n", b"err\n")


TALK = ["sh", "-c", "trap 'yes | head -c 300000; exit 5' USR1; echo first; while :; do sleep 0.01; done"]


@pytest.fixture
def stuck(disk: Disk, shim: Shim) -> Container:
    """Its log is on a disk that hangs while it is written to."""
    container = shim.running(TALK, stdout=f"file://{disk.path}/log", drain_timeout=0.1)
    until(lambda: (disk.path / "log").stat().st_size == 6, "the first line")
    disk.freeze()
    container.kill(signal.SIGUSR1)
    until(lambda: container.inspect()["streams"][0]["hangs_s"] > 0.1, "a write that hangs")
    return container


def test_a_log_that_hangs_holds_up_no_other_stream(disk, shim, stuck):
    """Nothing is lost, and the container goes on, once the disk does."""
    assert_served(shim)
    assert stuck.state() == "RUNNING"
    disk.thaw()
    assert stuck.wait() == 5
    stuck.delete()
    assert (disk.path / "log").stat().st_size == 300_006


def test_a_log_that_hangs_holds_up_no_delete(disk, shim, stuck):
    """What is not written is lost, and that is said."""
    logged = shim.process.log.stat().st_size
    stuck.kill()
    assert stuck.wait() == 137
    stuck.delete()
    said = shim.process.log.read_bytes()[logged:].decode()
    assert said.count(f"a disk hangs: {stuck.id} stdout and stderr cannot be ended yet") == 1
    assert_served(shim)
    disk.thaw()


def test_a_bundle_that_hangs_holds_up_no_other_container(disk, shim):
    """How it ended is told once it is on disk, which takes as long as the disk does."""
    bundle = disk.path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_bytes((shim.make_bundle(["sleep", "1000"]) / "config.json").read_bytes())
    container = shim.running(bundle)
    waiting = container.begin("Wait")
    disk.freeze()
    container.kill()
    until(lambda: shim.inspect()["children"] == 0, "the end of the init")
    assert_served(shim)
    assert not waiting.done
    assert container.state() == "RUNNING"
    disk.thaw()
    assert waiting.result().exit_status == 137
    assert records.load(bundle / "exit.json")["status"] == 137
    container.delete()
