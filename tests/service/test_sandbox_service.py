"""containerd's Sandbox API over a shim's socket: namespaces that containers share, and what ends them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from support import bed
from support.shims import Container, Lender, Shim, ShimProcess, raises

from shim.bootstrap.delete import delete_from_disk
from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from shim.proto.pod_pb2 import CONTAINER, NODE, POD, PodSandboxConfig

pytestmark = pytest.mark.root


def pod(sysctls: dict[str, str] | None = None, parent: str = "", **modes: Any) -> AnyMessage:
    """The options that CRI sends."""
    modes = {"network": POD, "pid": CONTAINER, "ipc": POD, **modes}
    linux = {"security_context": {"namespace_options": modes}, "sysctls": sysctls or {}}
    config = PodSandboxConfig(hostname="podname", linux={**linux, "cgroup_parent": parent})
    config.dns_config.servers.append("192.0.2.53")
    config.dns_config.searches.extend(["a.test", "b.test"])
    return AnyMessage(type_url="runtime.v1.PodSandboxConfig", value=config.SerializeToString())


class Sandboxed(Shim):
    """A shim process with a sandbox ``box`` in it, or for one."""

    def sandbox(self, method: str, **fields: object) -> object:
        return self.call(method, version="sandbox", **{"sandbox_id": "box", **fields})

    def create(self, wanted: AnyMessage | None = None, **fields: object) -> None:
        self.sandbox("CreateSandbox", bundle_path=str(self.process.bundle), options=wanted or pod(), **fields)

    def start(self, *args: object, **fields: object) -> int:
        """The pid of the process that holds the namespaces."""
        self.create(*args, **fields)
        return self.sandbox("StartSandbox").pid

    def state(self) -> str:
        return self.sandbox("SandboxStatus").state

    def member(self, pid: int, args: list[str] = ("sleep", "1000"), **how: object) -> Container:  # type: ignore[assignment]
        """A container in the namespaces of ``pid``, as CRI makes its config.json."""
        namespaces = [{"type": kind, "path": f"/proc/{pid}/ns/{name}"} for kind, name in NAMESPACES.items()]
        template = json.loads((bed.CHECKOUT / "bundles" / "readonly" / "config.json").read_text())
        changes = {
            # The pod's files are mounted in /etc, and not in that of the sample root filesystem.
            "mounts": [*template["mounts"], {"destination": "/etc", "type": "tmpfs", "source": "tmpfs"}],
            "annotations": {"io.kubernetes.cri.sandbox-id": "box"},
            "hostname": None,
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, *namespaces]},
        }
        return self.running(args, changes=changes, **how)


NAMESPACES = {"ipc": "ipc", "uts": "uts", "network": "net"}


@pytest.fixture
def box(leaks, state_root, bundle, tmp_path) -> Iterator[Sandboxed]:
    """A shim process of the test's own, which has to have ended at its end."""
    process = ShimProcess(state_root)
    with Sandboxed(process, bundle, tmp_path) as connection:
        yield connection
        connection.close_streams()
    if not process.ended(0):
        with process.connect() as connection:
            connection.call("ShutdownSandbox", version="sandbox", sandbox_id="box")
    assert process.ended()
    assert process.status == 0
    assert not (process.bundle / "sandbox.json").exists()
    for path in state_root.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[str]:
    """The path of a network namespace as CNI leaves it."""
    path = tmp_path / "netns"
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "true"], check=True)
    yield str(path)
    subprocess.run(["umount", path], check=True)


def namespace(pid: int | str, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


def test_a_sandbox_goes_through_its_states(box: Sandboxed, lender: Lender) -> None:
    box.create(pod(parent=lender.cgroups.path))
    assert box.state() == "SANDBOX_NOTREADY"
    with raises(FailedPrecondition, "not been started"):
        box.sandbox("WaitSandbox")
    before = time.time()
    started = box.sandbox("StartSandbox")
    assert abs(started.created_at.ToNanoseconds() / 1e9 - before) < 60
    assert box.state() == "SANDBOX_READY"
    metrics = box.sandbox("SandboxMetrics").metrics
    assert metrics.id == "box"
    assert metrics.data.type_url.startswith("io.containerd.cgroups.v")
    waiting = [box.begin("WaitSandbox", version="sandbox", sandbox_id="box") for _ in range(2)]
    box.sandbox("PingSandbox")
    platform = box.sandbox("Platform").platform
    assert (platform.os, platform.architecture in {"amd64", "arm64"}) == ("linux", True)
    for _ in range(2):
        box.sandbox("StopSandbox", timeout_secs=10)
        status = box.sandbox("SandboxStatus", verbose=True)
        assert status.state == "SANDBOX_NOTREADY"
        assert status.exited_at.seconds > 0
        assert json.loads(status.info["shim"])["containers"] == []
    assert {call.result().exit_status for call in waiting} == {137}
    assert box.sandbox("WaitSandbox").exited_at == status.exited_at
    box.sandbox("ShutdownSandbox")
    assert box.process.ended()


def test_what_cannot_be_is_refused(box: Sandboxed) -> None:
    for method in ("StartSandbox", "StopSandbox", "WaitSandbox", "SandboxStatus", "PingSandbox", "Platform"):
        with raises(NotFound, "box"):
            box.sandbox(method)
    for wanted, kind, word in (
        (pod(sysctls={"kernel.panic": "1"}), InvalidArgument, "kernel.panic"),
        (pod(network=NODE, sysctls={"net.ipv4.ip_forward": "1"}), InvalidArgument, "ip_forward"),
        (AnyMessage(type_url="runtime.v1.PodSandboxConfig", value=b"\xff"), InvalidArgument, "decoded"),
        (pod(userns_options={"mode": POD}), Unimplemented, "user namespace"),
    ):
        with raises(kind, word):
            box.create(wanted)
    box.create(netns_path="/run/netns/no-such")
    with raises(AlreadyExists):
        box.create()
    with raises(NotFound, "no-such"):
        box.sandbox("StartSandbox")
    assert box.state() == "SANDBOX_NOTREADY"


def test_a_shutdown_of_nothing_ends_the_shim(box: Sandboxed) -> None:
    with raises(NotFound):
        box.sandbox("ShutdownSandbox")
    assert box.process.ended()


def test_containers_share_the_namespaces(box: Sandboxed, network: str) -> None:
    pid = box.start(
        pod(sysctls={"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}), netns_path=network
    )
    assert os.stat(network).st_ino == int(namespace(pid, "net").strip("net:[]"))
    assert namespace(pid, "pid") == namespace("self", "pid")
    streams = box.streams()
    script = "cat /etc/hostname /etc/resolv.conf; hostname; echo shared > /dev/shm/x; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced"
    member = box.member(pid, ["sh", "-c", f"{script}; sleep 1000"], streams=streams)
    streams.read_until(b"podname\nnameserver 192.0.2.53\nsearch a.test b.test\npodname\n1\n1\n")
    output = box.streams()
    other = box.member(pid, ["sh", "-c", "cat /dev/shm/x; exec sleep 1000"], streams=output)
    output.read_until(b"shared\n")
    for name in NAMESPACES.values():
        assert namespace(member.pid, name) == namespace(other.pid, name) == namespace(pid, name)
        assert namespace(pid, name) != namespace("self", name)
    box.sandbox("StopSandbox")
    assert member.wait() == other.wait() == 137


def test_a_sandbox_of_the_host_and_its_death(box: Sandboxed) -> None:
    """Whoever waits hears of it; the rest is for the client to clear away."""
    pid = box.start(pod(network=NODE, pid=NODE, ipc=NODE), netns_path="")
    assert {namespace(pid, n) for n in ("ipc", "uts", "net", "pid")} == {
        namespace("self", n) for n in ("ipc", "uts", "net", "pid")
    }
    with raises(FailedPrecondition, "already"):
        box.sandbox("StartSandbox")
    waiting = box.begin("WaitSandbox", version="sandbox", sandbox_id="box")
    os.kill(pid, signal.SIGKILL)
    assert waiting.result().exit_status == 137
    assert box.state() == "SANDBOX_NOTREADY"


def test_containers_may_share_their_pids(box: Sandboxed) -> None:
    pid = box.start(pod(pid=POD))
    assert namespace(pid, "pid") != namespace("self", "pid")
    changes = {"linux": {"namespaces": [{"type": "mount"}, {"type": "pid", "path": f"/proc/{pid}/ns/pid"}]}}
    streams = box.streams()
    # An orphan ends in the hands of the holder, and is reaped.
    script = "(sleep 0.01 & exit 0); sleep 1000"
    first = box.running(["sh", "-c", script], changes={"hostname": None, **changes}, streams=streams)
    second = box.running(changes={"hostname": None, **changes})
    (children,) = Path(f"/proc/{pid}/task").glob(f"{pid}/children")
    bed.until(lambda: children.read_text() == "", "the orphan is not reaped")
    first.kill()
    assert first.wait() == 137
    assert second.state() == "RUNNING"


def test_a_shim_stays_while_its_sandbox_lives(box: Sandboxed) -> None:
    """And not a moment longer: what is left in it is deleted then."""
    pid = box.start()
    with raises(NotFound, "cgroup"):
        box.sandbox("SandboxMetrics")
    box.member(pid).end()
    box.call("Shutdown", id="box")
    box.process.signal(signal.SIGTERM)
    box.sandbox("PingSandbox")
    assert not box.process.ended(0.1)
    running, ended, created = box.member(pid), box.member(pid, ["true"]), box.container()
    assert ended.wait() == 0
    box.sandbox("ShutdownSandbox")
    assert box.process.ended()
    assert not Path(f"/proc/{running.pid}").exists()
    assert not Path(f"/proc/{created.pid}").exists()


def test_a_killed_shim_leaves_what_delete_clears(leaks, state_root, bundle, tmp_path) -> None:
    process = ShimProcess(state_root)
    with Sandboxed(process, bundle, tmp_path) as box:
        pid = box.start()
        members = [box.member(pid) for _ in range(2)]
        process.kill()
    # containerd takes the bundles of the containers away, and then has the sandbox's cleared.
    shutil.rmtree(members[0].bundle)
    for _ in range(2):
        delete_from_disk(process.bundle)
    for gone in (pid, *(member.pid for member in members)):
        bed.until(lambda gone=gone: not Path(f"/proc/{gone}").exists(), f"{gone} lives")
    for path in state_root.rglob("*"):
        if not path.is_dir():
            path.unlink()
