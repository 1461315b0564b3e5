"""A container's whole life over the real socket, with each runtime."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from support.client_streams import until
from support.mounts import mount_points
from support.shims import raises

from shim.errors import FailedPrecondition, InvalidArgument, NotFound
from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2
from shim.store import records

pytestmark = pytest.mark.root


def test_a_container_runs_to_its_end(shim, runtime):
    streams = shim.streams(stdin=True, stderr=True)
    container = shim.container(["sh", "-c", "cat; echo err >&2; exit 19"], streams=streams, runtime=runtime)
    waiting = container.begin("Wait")
    assert container.state() == "CREATED"
    assert container.start() == container.pid
    assert container.state() == "RUNNING"
    assert container.pid in container.pids()
    streams.write(b"hello\n")
    streams.close_stdin()
    container.call("CloseIO", stdin=True)
    assert waiting.result().exit_status == 19
    assert container.state() == "STOPPED"
    assert container.delete().exit_status == 19
    assert streams.read() == b"hello\n"
    assert streams.read("stderr") == b"err\n"


def test_an_init_that_ends_at_once(shim, runtime):
    for _ in range(5 if runtime == "runc" else 2):
        container = shim.container(["sh", "-c", "exit 19"], runtime=runtime)
        waiting = container.begin("Wait")
        container.start()
        assert waiting.result().exit_status == 19
        assert container.state() == "STOPPED"
        assert records.load(container.bundle / "exit.json")["status"] == 19
        assert container.delete().exit_status == 19


def test_signals_reach_the_init(shim, runtime):
    streams = shim.streams()
    script = "trap 'echo usr1' USR1; trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"
    container = shim.running(["sh", "-c", script], streams=streams, runtime=runtime)
    streams.read_until(b"up")
    container.kill(signal.SIGUSR1)
    streams.read_until(b"usr1")
    waiting = container.begin("Wait")
    container.kill(signal.SIGTERM)
    assert waiting.result().exit_status == 7
    container.delete()


def test_signals_that_do_not_exist(shim, runtime):
    container = shim.running(runtime=runtime)
    for everybody in (False, True):
        for number in (65, 2**31):
            with raises(InvalidArgument):
                container.kill(number, everybody=everybody)
    assert container.state() == "RUNNING"
    container.end()


def test_statistics(shim, runtime):
    container = shim.container(runtime=runtime)
    for _ in range(2):
        answer = container.call("Stats").stats
        metrics = {
            "io.containerd.cgroups.v1.Metrics": MetricsV1,
            "io.containerd.cgroups.v2.Metrics": MetricsV2,
        }
        assert metrics[answer.type_url].FromString(answer.value).pids.current >= 1
        if container.state() == "CREATED":
            container.start()
    container.end()


def test_sigkill_ends_the_init(shim, runtime):
    container = shim.running(runtime=runtime)
    container.kill(signal.SIGKILL)
    assert container.wait() == 137
    assert container.delete().exit_status == 137


def test_sigkill_before_the_start(shim, runtime):
    container = shim.container(runtime=runtime)
    waiting = container.begin("Wait")
    container.kill(signal.SIGKILL)
    assert waiting.result().exit_status == 137
    assert container.state() == "STOPPED"
    with raises(FailedPrecondition, "cannot start", "stopped"):
        container.start()
    assert container.delete().exit_status == 137


def test_delete_before_the_start(shim, runtime):
    for streams in (None, shim.streams(stdin=True, stderr=True)):
        container = shim.container(runtime=runtime, streams=streams)
        waiting = container.begin("Wait", timeout=20)
        assert not container.delete().HasField("exited_at")
        with raises(NotFound, container.id):
            waiting.result()
        assert not os.path.exists(f"/proc/{container.pid}")
        assert not (container.bundle / "exit.json").exists()


def test_sigkill_while_paused(shim, runtime):
    for everybody in (False, True):
        container = shim.running(runtime=runtime)
        container.call("Pause")
        assert container.state() == "PAUSED"
        waiting = container.begin("Wait")
        container.kill(signal.SIGKILL, everybody=everybody)
        assert waiting.result().exit_status == 137
        assert container.state() == "STOPPED"
        container.delete()


def test_pause_stops_and_resume_continues(shim, runtime):
    streams = shim.streams()
    script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
    container = shim.running(["sh", "-c", script], streams=streams, runtime=runtime)
    streams.read_until(b"3\n")
    for _ in range(2):
        container.call("Pause")
        until(lambda: streams.is_silent(0.1), "silence")
        container.call("Resume")
        streams.read_more()
    container.end()


@pytest.mark.parametrize("namespace", ["shared", "private"])
def test_what_the_init_leaves_behind_is_killed(shim, namespace):
    """With a pid namespace of its own the kernel does it; without, the shim has to."""
    streams = shim.streams()
    container = shim.container(["sh", "-c", "sleep 1000 & echo up; exec sleep 1000"], streams=streams)
    if namespace == "shared":
        container.delete()
        container = shim.container(without_pid_namespace(shim, container.bundle), streams=streams)
    container.start()
    streams.read_until(b"up")
    left = [pid for pid in container.pids() if pid != container.pid]
    assert left
    container.kill(signal.SIGKILL)
    assert container.wait() == 137
    until(lambda: not any(is_alive(pid) for pid in left), "their end")
    container.delete()


def test_kill_of_all_reaches_everybody(shim):
    streams = shim.streams()
    # The init lets the child finish: what it leaves behind is killed at once.
    script = """
        sh -c 'trap "echo child; exit 0" TERM; echo up; while :; do sleep 0.01; done' &
        trap 'wait; echo init; exit 1' TERM
        wait
    """
    made = shim.container(["sh", "-c", script])
    made.delete()
    container = shim.running(without_pid_namespace(shim, made.bundle), streams=streams)
    streams.read_until(b"up")
    container.kill(signal.SIGTERM, everybody=True)
    assert container.wait() == 1
    container.delete()
    assert set(streams.read().split()) == {b"up", b"init", b"child"}


def own_bundle(shim, args: list[str]) -> Path:
    """A bundle where the command line has them, which the shim may remove."""
    made = shim.make_bundle(args)
    bundle = shim.process.root / "containers" / "own"
    bundle.parent.mkdir(exist_ok=True)
    return Path(shutil.move(made, bundle))


def test_auto_remove(shim, runtime):
    bundle = own_bundle(shim, ["sh", "-c", "exit 4"])
    container = shim.container(bundle, runtime=runtime, auto_remove=True)
    waiting = container.begin("Wait")
    container.start()
    assert waiting.result().exit_status == 4
    # It was the only container, so its shim ends, too.
    assert shim.process.ended()
    assert shim.process.status == 0
    assert not bundle.exists()


def test_auto_remove_leaves_the_bundles_of_others(shim):
    container = shim.running(["true"], auto_remove=True)
    assert shim.process.ended()
    assert (container.bundle / "exit.json").exists()


def test_auto_remove_of_what_somebody_else_deletes(shim):
    bundle = own_bundle(shim, ["sleep", "1000"])
    container = shim.container(bundle, auto_remove=True)
    container.delete()
    assert shim.process.ended()
    assert shim.process.status == 0
    assert sorted(p.name for p in bundle.iterdir()) == ["config.json"]
    shutil.rmtree(bundle)


def test_a_bundle_can_be_used_again(shim):
    bundle = shim.make_bundle(["sh", "-c", "exit 3"])
    for _ in range(2):
        container = shim.container(bundle)
        assert not (bundle / "exit.json").exists()
        container.start()
        assert container.wait() == 3
        container.delete()


def test_the_bundle_keeps_what_others_put_there(shim):
    bundle = shim.make_bundle(["true"])
    (bundle / "precious").write_text("x")
    container = shim.container(bundle)
    container.start()
    container.wait()
    container.delete()
    assert {p.name for p in bundle.iterdir()} == {"config.json", "precious", "exit.json"}


def test_a_rootfs_is_mounted_and_unmounted(shim, tmp_path):
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for folder in (lower, upper, work):
        folder.mkdir()
    made = shim.make_bundle(["sh", "-c", "echo new > /root/file; cat /root/file"])
    rootfs = json.loads((made / "config.json").read_text())["root"]["path"]
    bundle = shim.make_bundle(
        ["sh", "-c", "echo new > /root/file; cat /root/file"], root={"path": "rootfs", "readonly": False}
    )
    streams = shim.streams()
    mount = {
        "type": "overlay",
        "source": "overlay",
        "options": [f"lowerdir={rootfs}", f"upperdir={upper}", f"workdir={work}"],
    }
    container = shim.running(bundle, streams=streams, rootfs=[mount])
    assert container.wait() == 0
    assert os.path.ismount(bundle / "rootfs")
    container.delete()
    assert not os.path.ismount(bundle / "rootfs")
    assert streams.read() == b"new\n"
    assert (upper / "root" / "file").read_text() == "new\n"


def test_a_rootfs_that_is_busy_is_detached(shim):
    made = shim.make_bundle(["true"])
    source = json.loads((made / "config.json").read_text())["root"]["path"]
    bundle = shim.make_bundle(["true"], root={"path": "rootfs"})
    container = shim.running(bundle, rootfs=[{"type": "bind", "source": source, "options": ["rbind", "ro"]}])
    container.wait()
    with open(bundle / "rootfs" / "bin" / "busybox", "rb"):
        assert f"{bundle}/rootfs" in mount_points().values()
        container.delete()
        assert f"{bundle}/rootfs" not in mount_points().values()


def without_pid_namespace(shim, bundle: Path) -> Path:
    config = json.loads((bundle / "config.json").read_text())
    namespaces = [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]
    return shim.make_bundle(config["process"]["args"], linux={"namespaces": namespaces})


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
