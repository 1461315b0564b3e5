"""containerd's Sandbox API over a shim's socket: namespaces that containers share, and what ends them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from support import bed
from support.sandboxes import NAMESPACES, Sandboxed, pod
from support.shims import Lender, ShimProcess, raises

from shim.bootstrap.delete import delete_from_disk
from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from shim.proto.pod_pb2 import NODE, POD

pytestmark = pytest.mark.root


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
        (pod(userns_options={"mode": POD}), InvalidArgument, "id 0"),
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
