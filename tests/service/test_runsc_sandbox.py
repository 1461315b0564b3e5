"""A sandbox whose runtime is gVisor: a kernel of the pod's own, without a pause image."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import bed
from support.sandboxes import Sandboxed, pod, sandboxed
from support.shims import Lender, MakeBundle, ShimProcess, options, raises

from shim.bootstrap.delete import delete_from_disk
from shim.errors import DeadlineExceeded, FailedPrecondition, NotFound, Unimplemented
from shim.proto.pod_pb2 import NODE, POD
from shim.service.options import save_start_options

pytestmark = pytest.mark.root

# Most of these are in the host's network namespace, which gVisor's own stack refuses to take over.
GVISOR = {"runtime": "runsc", "runsc_config": {"network": "host"}}


@pytest.fixture
def box(leaks: None, state_root: Path, bundle: MakeBundle, tmp_path: Path) -> Iterator[Sandboxed]:
    bed.need_runtime("runsc")
    with sandboxed(state_root, bundle, tmp_path, **GVISOR) as connection:
        yield connection


def test_it_goes_through_its_states(box: Sandboxed, lender: Lender, network: str) -> None:
    box.create(pod(parent=lender.cgroups.path), netns_path=network)
    assert box.state() == "SANDBOX_NOTREADY"
    started = box.sandbox("StartSandbox")
    assert box.state() == "SANDBOX_READY"
    assert "runsc" in Path(f"/proc/{started.pid}/cmdline").read_text()
    assert Path(f"/proc/{started.pid}/ns/net").stat().st_ino == os.stat(network).st_ino
    box.sandbox("PingSandbox")
    assert box.sandbox("Platform").platform.os == "linux"
    assert box.sandbox("SandboxMetrics").metrics.id == "box"
    with raises(FailedPrecondition, "already"):
        box.sandbox("StartSandbox")
    waiting = box.begin("WaitSandbox", version="sandbox", sandbox_id="box")
    for _ in range(2):
        box.sandbox("StopSandbox", timeout_secs=10)
        assert box.state() == "SANDBOX_NOTREADY"
    assert waiting.result().exit_status == 137
    with raises(FailedPrecondition, "not ready"):
        box.member(started.pid)
    box.sandbox("ShutdownSandbox")
    assert box.process.ended()


def test_containers_share_one_kernel(box: Sandboxed) -> None:
    pid = box.start()
    outputs = [box.streams(), box.streams()]
    script = "hostname; head -n 1 /etc/resolv.conf; echo shared > /dev/shm/x; dmesg | grep -c gVisor; exec sleep 1000"
    first = box.member(pid, ["sh", "-c", script], streams=outputs[0])
    outputs[0].read_until(b"podname\nnameserver 192.0.2.53\n1\n")
    second = box.member(pid, ["sh", "-c", "cat /dev/shm/x; ps; exit 4"], streams=outputs[1])
    assert first.pid == second.pid == pid
    assert second.wait() == 4
    second.delete()
    seen = outputs[1].read()
    assert b"shared" in seen
    assert b"sleep 1000" not in seen
    box.sandbox("StopSandbox")
    assert first.wait() == 137


def test_containers_may_share_their_pids(box: Sandboxed) -> None:
    """Then all go on when the first of them has ended, and orphans are reaped."""
    pid = box.start(pod(pid=POD))
    shared = {"type": "pid", "path": f"/proc/{pid}/ns/pid"}
    streams = box.streams()
    first = box.member(pid, ["sh", "-c", "(sleep 0.01 & exit 0); sleep 1000"], own=[shared])
    script = "while [ $(ps | wc -l) -gt 7 ]; do sleep 0.01; done; ps -o stat,args; echo; sleep 1000"
    second = box.member(pid, ["sh", "-c", script], own=[shared], streams=streams)
    seen = streams.read_until(b"\n\n")
    assert b"/pause" in seen
    assert b"sleep 1000" in seen
    assert b"Z " not in seen
    assert first.end() == 137
    assert second.state() == "RUNNING"


def test_what_an_init_leaves_in_shared_pids_is_killed(box: Sandboxed) -> None:
    """Clients wait for the end of its output before they delete it."""
    pid = box.start(pod(pid=POD))
    streams = box.streams()
    own = [{"type": "pid", "path": f"/proc/{pid}/ns/pid"}]
    member = box.member(pid, ["sh", "-c", "sleep 1000 & echo up; exec sleep 1000"], own=own, streams=streams)
    streams.read_until(b"up\n")
    member.kill()
    assert member.wait() == 137
    assert streams.read() == b"up\n"


def test_the_hosts_name_and_its_death(box: Sandboxed) -> None:
    pid = box.start(pod(network=NODE, pid=NODE, ipc=NODE))
    streams = box.streams()
    member = box.member(pid, ["sh", "-c", "hostname; exec sleep 1000"], streams=streams)
    streams.read_until(os.uname().nodename.encode() + b"\n")
    waiting = box.begin("WaitSandbox", version="sandbox", sandbox_id="box")
    os.kill(pid, signal.SIGKILL)
    assert waiting.result().exit_status == 137
    assert box.state() == "SANDBOX_NOTREADY"
    assert member.wait() == 137
    member.delete()


def test_it_stops_though_the_runtime_hangs(box: Sandboxed, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    runsc = tmp_path / "runsc-slow"
    runsc.write_text(f"""#!/bin/sh
        case " $* " in *" kill "*) [ ! -e {hanging} ] || exec sleep 1000 ;; esac
        exec {bed.need_runtime("runsc")} "$@"
    """)
    runsc.chmod(0o755)
    save_start_options(box.process.bundle, options(**{**GVISOR, "runtime": str(runsc)}))
    pid = box.start()
    running, created = box.member(pid), box.member(pid, started=False)
    hanging.touch()
    box.sandbox("StopSandbox", timeout_secs=5)
    assert running.wait() == 137
    hanging.unlink()
    running.delete()
    created.delete()


def test_what_cannot_be_is_refused(box: Sandboxed) -> None:
    box.create(netns_path="/run/netns/no-such")
    with raises(NotFound, "no-such"):
        box.sandbox("StartSandbox")
    box.sandbox("ShutdownSandbox")
    assert box.process.ended()


def test_no_container_gets_behind_gvisors_back(box: Sandboxed) -> None:
    pid = box.start()
    with raises(FailedPrecondition, "gVisor", "runc"):
        box.member(pid, runtime="runc")
    with raises(NotFound, "x"):
        box.call("State", id="x")


def test_a_user_namespace_is_refused(box: Sandboxed) -> None:
    ids = [{"host_id": 70000, "container_id": 0, "length": 1000}]
    box.create(pod(userns_options={"mode": POD, "uids": ids, "gids": ids}))
    with raises(Unimplemented, "user namespace"):
        box.sandbox("StartSandbox")


def test_the_runtime_of_start_is_the_sandboxs(leaks, state_root, bundle, tmp_path) -> None:
    """And of its containers, which may come without options."""
    bed.need_runtime("runsc")
    with sandboxed(state_root, bundle, tmp_path) as box:
        save_start_options(box.process.bundle, options(**GVISOR))
        pid = box.start()
        assert box.member(pid).pid == pid
        box.sandbox("StopSandbox")


def test_a_shim_that_is_killed_during_the_start_leaves_it_too(leaks, state_root, bundle, tmp_path) -> None:
    runsc, asked = tmp_path / "runsc-slow", tmp_path / "asked"
    runsc.write_text(f"""#!/bin/sh
        case " $* " in *" start "*) touch {asked}; exec sleep 1000 ;; esac
        exec {bed.need_runtime("runsc")} "$@"
    """)
    runsc.chmod(0o755)
    process = ShimProcess(state_root, **{**GVISOR, "runtime": str(runsc)})
    with Sandboxed(process, bundle, tmp_path) as box:
        box.create()
        box.begin("StartSandbox", version="sandbox", sandbox_id="box")
        bed.until(asked.exists, "gVisor is not started")
        process.kill()
    delete_from_disk(process.bundle)
    assert not (process.bundle / "sandbox.json").exists()
    for path in state_root.rglob("*"):
        if not path.is_dir():
            path.unlink()


def test_no_kernel_outlives_a_delete_in_which_the_runtime_hangs(leaks, state_root, bundle, tmp_path) -> None:
    """containerd gives a delete 5 s. It is done again when somebody asks."""
    hanging, runsc = tmp_path / "hanging", tmp_path / "runsc-slow"
    runsc.write_text(f"""#!/bin/sh
        [ ! -e {hanging} ] || exec sleep 1000
        exec {bed.need_runtime("runsc")} "$@"
    """)
    runsc.chmod(0o755)
    process = ShimProcess(state_root, **{**GVISOR, "runtime": str(runsc)})
    with Sandboxed(process, bundle, tmp_path) as box:
        pid = box.start()
        box.member(pid)
        process.kill()
    hanging.touch()
    with raises(DeadlineExceeded, "0.2 s"):
        delete_from_disk(process.bundle, 0.2)
    assert not Path(f"/proc/{pid}").exists()
    hanging.unlink()
    delete_from_disk(process.bundle)
    for path in state_root.rglob("*"):
        if not path.is_dir():
            path.unlink()


def test_a_killed_shim_leaves_what_delete_clears(leaks, state_root, bundle, tmp_path) -> None:
    bed.need_runtime("runsc")
    process = ShimProcess(state_root, **GVISOR)
    with Sandboxed(process, bundle, tmp_path) as box:
        pid = box.start()
        members = [box.member(pid) for _ in range(2)]
        process.kill()
    shutil.rmtree(members[0].bundle)
    for _ in range(2):
        delete_from_disk(process.bundle)
    bed.until(lambda: not Path(f"/proc/{pid}").exists(), "gVisor lives")
    for path in state_root.rglob("*"):
        if not path.is_dir():
            path.unlink()
