"""Limits through the whole shim: what was asked for is what the kernel has, and what it does.

The first tests run wherever there is a memory controller, v1 included, where the OCI runtime sets the limits. Those
marked ``cgroup2`` are about the groups that the shim makes itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from support import bed
from support.client_streams import until
from support.shims import RESOURCES_URL, Container, json_any, raises

from shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from shim.proto.cgroups_v2_pb2 import Metrics
from shim.store import records

pytestmark = pytest.mark.root

MIB = 1 << 20
BURN = ["sh", "-c", "while :; do :; done"]
HOG = ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"]
UNLIMITED = 2**64 - 1


@pytest.fixture(params=["runc", "crun"])
def native(request: pytest.FixtureRequest) -> str:
    """A runtime whose containers are processes of the host, in groups of their own."""
    bed.need_runtime(request.param)
    return request.param


def test_a_memory_hog_is_killed_and_it_is_told(shim, native):
    container = shim.running(HOG, runtime=native, memory_bytes=32 * MIB)
    assert container.wait() == 137
    assert container.inspect()["oom_killed"] is True
    record = records.load(container.bundle / "exit.json")
    assert (record["status"], record["oom_killed"]) == (137, True)
    assert container.delete().exit_status == 137


def test_a_kill_of_somebody_else_is_no_oom(shim, native):
    container = shim.running(runtime=native, memory_bytes=32 * MIB)
    container.kill(signal.SIGKILL)
    assert container.wait() == 137
    assert container.inspect()["oom_killed"] is False


def test_a_killed_child_counts_as_well(shim, native):
    container = shim.running(["sh", "-c", f"{HOG[2]}; exit 3"], runtime=native, memory_bytes=32 * MIB)
    assert container.wait() == 3
    assert container.inspect()["oom_killed"] is True


def test_what_is_updated_is_kept_in_mind(shim, native):
    container = shim.running(runtime=native, memory_bytes=64 * MIB)
    container.call("Update", resources=json_any(RESOURCES_URL, {"memory": {"limit": 48 * MIB}}))
    assert memory_limit(container) == 48 * MIB
    assert container.inspect()["limits"]["memory"]["limit"] == 48 * MIB


def test_leftover_processes_are_killed(shim, native):
    """A process that somebody else has put into the container's groups."""
    streams = shim.streams(stdin=True)
    container = shim.running(["sh", "-c", "read x; exit 3"], runtime=native, streams=streams)
    groups = groups_of(container)
    with killed_at_the_end("sleep", "1000") as stranger:
        for group in groups:
            (group / "cgroup.procs").write_text(str(stranger.pid))
        streams.write(b"\n")
        assert container.wait() == 3
        container.delete()
        assert stranger.wait(10) == -signal.SIGKILL
    assert not any(group.exists() for group in groups)


@contextlib.contextmanager
def killed_at_the_end(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv) as process:
        try:
            yield process
        finally:
            process.kill()


def groups_of(container: Container) -> list[Path]:
    """The groups that are the container's own, in every hierarchy."""
    found = []
    for line in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        top = "/sys/fs/cgroup"
        if not bed.has_cgroup2():
            top += f"/{controllers.removeprefix('name=')}" if controllers else "/unified"
        if path.endswith(container.id):
            found.append(Path(f"{top}{path}"))
    assert found
    return found


def memory_limit(container: Container) -> int:
    """What the kernel has for the init."""
    for line in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if bed.has_cgroup2() and number == "0":
            return int(Path(f"/sys/fs/cgroup{path}/memory.max").read_text())
        if controllers == "memory":
            return int(Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes").read_text())
    raise AssertionError("no memory controller")


# Groups of the shim's own.


def group_in(parent: str, container: Container) -> Path:
    """The group of ``container`` below ``parent``, which its processes are in."""
    path = Path(f"/proc/{container.pid}/cgroup").read_text().strip().removeprefix("0::")
    assert path.startswith(parent.rstrip("/") + "/"), path
    return Path(f"/sys/fs/cgroup{path}")


@contextlib.contextmanager
def parent_group(name: str, *, threaded: bool = False) -> Iterator[Path]:
    folder = Path("/sys/fs/cgroup", name)
    folder.mkdir()
    try:
        if threaded:
            (folder / "cgroup.type").write_text("threaded")
        yield folder
    finally:
        folder.rmdir()


@pytest.mark.cgroup2
def test_the_configured_limits_hold_below_the_configured_parent(shim, native):
    parent = f"/examplelimit-{native}/deeper"
    container = shim.container(
        runtime=native, cgroup_parent=f"{parent}/", cpu_nanos=500_000_000, memory_bytes=64 * MIB
    )
    group = group_in(parent, container)
    for _ in range(2):
        assert (group / "cpu.max").read_text() == "50000 100000\n"
        assert (group / "memory.max").read_text() == f"{64 * MIB}\n"
        if container.state() == "CREATED":
            container.start()
    resources = {"cpu": {"quota": 150_000, "period": 100_000}, "memory": {"limit": 96 * MIB}}
    container.call("Update", resources=json_any(RESOURCES_URL, resources))
    assert (group / "cpu.max").read_text() == "150000 100000\n"
    assert (group / "memory.max").read_text() == f"{96 * MIB}\n"
    assert container.inspect()["cgroup"]["limits"] == "shim"
    container.end()
    assert not group.exists()
    group.parent.rmdir()
    group.parent.parent.rmdir()


@pytest.mark.cgroup2
def test_a_limit_that_one_period_cannot_express(shim):
    container = shim.container(cpu_nanos=500_005_000)
    quota, period = (group_in("/", container) / "cpu.max").read_text().split()
    assert Fraction(int(quota), int(period)) == Fraction(500_005_000, 10**9)


@pytest.mark.cgroup2
def test_all_limits_of_the_bundle(shim, native):
    resources = {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 64 * MIB},
        "cpu": {"shares": 512, "quota": 20_000, "period": 50_000},
        "pids": {"limit": 50},
    }
    container = shim.running(runtime=native, changes={"linux": {"resources": resources}})
    group = group_in("/", container)
    found = {
        name: (group / name).read_text().strip()
        for name in ("memory.max", "memory.low", "cpu.max", "pids.max")
    }
    assert found == {
        "memory.max": str(64 * MIB),
        "memory.low": str(32 * MIB),
        "cpu.max": "20000 50000",
        "pids.max": "50",
    }
    assert 1 < int((group / "cpu.weight").read_text()) < 100
    assert container.inspect()["limits"]["pids"]["limit"] == 50


@pytest.mark.cgroup2
@pytest.mark.slow
def test_a_burner_gets_its_share(shim):
    """Within 10 %, live, and again after an update."""
    container = shim.running(BURN, cpu_nanos=300_000_000)
    group = group_in("/", container)
    assert share_of(group, 2.0) == pytest.approx(0.3, rel=0.1)
    container.call("Update", resources=json_any(RESOURCES_URL, {"cpu": {"quota": 60_000, "period": 100_000}}))
    assert share_of(group, 2.0) == pytest.approx(0.6, rel=0.1)
    assert container.end() == 137


def share_of(group: Path, for_s: float) -> float:
    """The part of one CPU that the group has used, between two ends of periods."""
    (used, at), deadline = usage_of(group), time.monotonic() + for_s
    while time.monotonic() < deadline:
        time.sleep(0.1)
    used_later, later = usage_of(group)
    return (used_later - used) / 1e6 / (later - at)


def usage_of(group: Path) -> tuple[int, float]:
    stat = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(stat["usage_usec"]), time.monotonic()


@pytest.mark.cgroup2
def test_statistics_of_the_group(shim, native):
    container = shim.running(BURN, runtime=native, memory_bytes=64 * MIB, cpu_nanos=500_000_000)
    group = group_in("/", container)
    until(lambda: usage_of(group)[0] > 50_000, "some use")
    # runc's own init has threads until it executes the program.
    until(lambda: (group / "pids.current").read_text() == "1\n", "the program alone")
    answer = container.call("Stats").stats
    assert answer.type_url == "io.containerd.cgroups.v2.Metrics"
    metrics = Metrics.FromString(answer.value)
    assert metrics.cpu.usage_usec >= 50_000
    assert metrics.memory.usage > 0
    assert metrics.memory.usage_limit == 64 * MIB
    assert metrics.pids.current == 1
    assert container.end() == 137


@pytest.mark.cgroup2
def test_a_parent_that_is_a_leaf_with_processes(shim, native):
    with parent_group("leaf") as folder, killed_at_the_end("sleep", "1000") as inhabitant:
        (folder / "cgroup.procs").write_text(str(inhabitant.pid))
        with raises(FailedPrecondition, "/leaf", "no-internal-process"):
            shim.container(runtime=native, cgroup_parent="/leaf", memory_bytes=64 * MIB)
        assert [p for p in folder.iterdir() if p.is_dir()] == []


@pytest.mark.cgroup2
def test_a_parent_that_is_threaded(shim, native):
    with parent_group("threads") as above, parent_group("threads/below", threaded=True):
        with raises(FailedPrecondition, "/threads", "threaded"):
            shim.container(runtime=native, cgroup_parent="/threads/below", memory_bytes=64 * MIB)
        assert [p.name for p in above.iterdir() if p.is_dir()] == ["below"]


@pytest.mark.cgroup2
@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"cpu": {"quota": 500, "period": 100_000}}, ["cpu.quota"]),
        ({"memory": {"limit": -2}}, ["memory.limit"]),
        ({"pids": {"limit": 2**63}}, ["pids.limit"]),
    ],
)
def test_limits_that_cannot_be(shim, resources, words):
    """Refused at Create, with nothing left; refused at Update, with the container as it was."""
    with raises(InvalidArgument, *words):
        shim.container(changes={"linux": {"resources": resources}})
    container = shim.running(memory_bytes=64 * MIB)
    with raises(InvalidArgument, *words):
        container.call("Update", resources=json_any(RESOURCES_URL, resources))
    assert memory_limit(container) == 64 * MIB
    assert container.end() == 137


@pytest.mark.cgroup2
def test_a_group_that_is_in_use(shim):
    container = shim.running(id="same", cgroup_parent="/used")
    with raises(AlreadyExists, "/used/same", str(container.pid)):
        shim.container(changes={"linux": {"cgroupsPath": "/used/same"}}, cgroup_parent="")
    assert container.state() == "RUNNING"
    assert container.end() == 137
    os.rmdir("/sys/fs/cgroup/used")


@pytest.mark.cgroup2
def test_kill_of_all_and_pids_see_the_whole_group(shim, native):
    streams = shim.streams()
    container = shim.running(
        ["sh", "-c", "sleep 1000 & sleep 1000 & echo up; wait"], runtime=native, streams=streams
    )
    streams.read_until(b"up")
    assert len(container.pids()) == 3
    container.kill(signal.SIGKILL, everybody=True)
    assert container.wait() == 137
    container.delete()


@pytest.mark.cgroup2
def test_a_paused_container_is_killed(shim, native):
    container = shim.running(runtime=native)
    container.call("Pause")
    assert "frozen 1" in (group_in("/", container) / "cgroup.events").read_text()
    container.call("Resume")
    container.call("Pause")
    assert container.end() == 137
