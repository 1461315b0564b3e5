"""Pods in gVisor: further containers live in the sandbox of the first, and end each in its own time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import bed
from support.shims import Shim, ShimProcess, raises

from shim.bootstrap.delete import delete_from_disk
from shim.errors import FailedPrecondition, NotFound, ShimError

pytestmark = pytest.mark.root

SANDBOX = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "pod"}
MEMBER = {**SANDBOX, "io.kubernetes.cri.container-type": "container"}


@pytest.fixture
def pod(shim):
    """The running first container of a pod, with ``member`` to make more."""
    bed.need_runtime("runsc")
    first = shim.running(id="pod", changes={"annotations": SANDBOX}, runtime="runsc")

    def member(args=("sleep", "1000"), **how):
        return shim.container(list(args), changes={"annotations": MEMBER}, runtime="runsc", **how)

    first.member = member
    return first


def test_members_have_their_own_streams_and_exit_codes(shim, pod):
    streams = [shim.streams(stdin=True, stderr=True) for _ in range(2)]
    script = "cat; echo $0 >&2; exit $0"
    members = [pod.member(["sh", "-c", script, str(3 + i)], streams=streams[i]) for i in range(2)]
    assert {member.pid for member in members} == {pod.pid}
    for i, member in enumerate(members):
        assert member.start() == pod.pid
        streams[i].write(f"to {i}".encode())
    for i in (1, 0):
        assert members[i].state() == "RUNNING"
        streams[i].close_stdin()
        members[i].call("CloseIO", stdin=True)
        assert members[i].wait() == 3 + i
        assert members[i].delete().exit_status == 3 + i
        assert streams[i].read() == f"to {i}".encode()
        assert streams[i].read("stderr") == f"{3 + i}\n".encode()
    assert pod.state() == "RUNNING"
    assert pod.end() == 137


def test_a_member_on_a_terminal(shim, pod):
    streams = shim.streams(stdin=True, terminal=True)
    member = pod.member(["sh", "-c", "read x; echo got $x; tty; exit 4"], streams=streams)
    member.start()
    streams.write(b"line\n")
    assert member.wait() == 4
    member.delete()
    assert b"got line" in streams.read()
    pod.end()


def test_signals_and_execs_reach_one_member(shim, pod):
    streams, other = shim.streams(), pod.member()
    member = pod.member(
        ["sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done"], streams=streams
    )
    other.start()
    member.start()
    streams.read_until(b"up")
    output = shim.streams()
    member.exec("e", ["sh", "-c", "echo $0 in; exit 6", "exec"], output)
    assert member.wait("e") == 6
    member.delete("e")
    assert output.read() == b"exec in\n"
    member.kill(signal.SIGTERM)
    assert member.wait() == 9
    with raises(NotFound):
        member.kill(signal.SIGTERM)
    member.delete()
    assert other.state() == "RUNNING"
    with raises(FailedPrecondition, "running"):
        other.delete()
    assert other.end() == 137
    pod.end()


def test_members_that_were_never_started(pod):
    killed, deleted = pod.member(), pod.member()
    waiting = deleted.begin("Wait")
    killed.kill()
    assert killed.wait() == 137
    killed.delete()
    deleted.delete()
    with raises(NotFound):
        waiting.result()
    assert pod.state() == "RUNNING"
    pod.end()


@pytest.mark.parametrize("every", [False, True])
def test_a_program_that_does_not_exist(pod, every):
    """containerd's CRI kills all of what it could not start; where that is refused, the pod stays for ever."""
    member = pod.member(["/no/such/program"])
    with pytest.raises(ShimError, match="no such file"):
        member.start()
    member.kill(everybody=every)
    assert member.wait() == 137
    member.delete()
    assert pod.state() == "RUNNING"
    pod.end()


def test_with_the_sandbox_all_members_end(pod):
    started, created = pod.member(), pod.member()
    started.start()
    pod.kill()
    assert pod.wait() == 137
    pod.delete()
    assert started.wait() == 137
    started.delete()
    created.delete()


def test_a_paused_pod_that_is_killed_can_be_deleted(pod):
    member = pod.member()
    member.start()
    member.call("Pause")
    pod.call("Pause")
    os.kill(pod.pid, signal.SIGKILL)
    assert pod.wait() == member.wait() == 137
    pod.delete()
    member.delete()


def test_a_paused_pod_without_its_shim_can_be_deleted(leaks, state_root, bundle, tmp_path):
    bed.need_runtime("runsc")
    process = ShimProcess(state_root)
    with Shim(process, bundle, tmp_path) as shim:
        pod = shim.running(changes={"annotations": SANDBOX}, id="pod", runtime="runsc")
        pod.call("Pause")
        process.kill()
    os.kill(pod.pid, signal.SIGKILL)
    bed.until(lambda: not Path(f"/proc/{pod.pid}").exists(), "gVisor lives")
    delete_from_disk(pod.bundle)
    for path in state_root.rglob("*"):
        if not path.is_dir():
            path.unlink()
