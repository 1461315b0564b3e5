"""Every method of containerd's Task over a real socket: what it answers, and with which code it refuses.

The codes are those that containerd, CRI and kubelet act on; where the runc shim says Unknown for a wrong state, this one says
FailedPrecondition. Most of it runs with runc alone: what differs between runtimes is in tests/integration.
"""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest
from support.client_streams import until
from support.shims import PROCESS_URL, RESOURCES_URL, json_any, options, raises

from shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unimplemented
from shim.linux.mounts import MS_REMOUNT, mount, umount2
from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2
from shim.proto.runc_options_pb2 import Options as RuncOptions
from shim.proto.runc_options_pb2 import ProcessDetails

pytestmark = pytest.mark.root

OF_A_CONTAINER = {
    "State": {},
    "Start": {},
    "Delete": {},
    "Pids": {},
    "Pause": {},
    "Resume": {},
    "Checkpoint": {"path": "/tmp/image"},
    "Kill": {"signal": 15},
    "Exec": {"exec_id": "e", "spec": json_any(PROCESS_URL, {"args": ["true"], "cwd": "/"})},
    "ResizePty": {"width": 80, "height": 25},
    "CloseIO": {"stdin": True},
    "Update": {"resources": json_any(RESOURCES_URL, {})},
    "Wait": {},
    "Stats": {},
}
OF_AN_EXEC = ["State", "Start", "Delete", "Kill", "ResizePty", "CloseIO", "Wait"]


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_an_unknown_container_is_not_found(shim, version):
    for method, fields in OF_A_CONTAINER.items():
        with raises(NotFound, "container not created", "nobody"):
            shim.call(method, version=version, id="nobody", **fields)


def test_an_unknown_exec_is_not_found(shim):
    container = shim.running()
    for method in OF_AN_EXEC:
        with raises(NotFound, "process does not exist nobody"):
            container.call(method, **{**OF_A_CONTAINER[method], "exec_id": "nobody"})


def test_what_does_not_exist_is_unimplemented(shim):
    """containerd 2 asks for v3 and goes back to v2 at this code."""
    with shim.process.connect() as other:
        for service, method in [("containerd.task.v4.Task", "State"), ("containerd.task.v3.Task", "Fly")]:
            with raises(Unimplemented, method if method == "Fly" else service):
                types = other.begin("Connect", id="x").result().__class__
                other.client.call(service, method, types(), types, 10)


def test_both_versions_are_the_same_service(shim):
    container = shim.container(version="v2")
    assert shim.call("State", version="v2", id=container.id).pid == container.pid
    assert shim.call("State", version="v3", id=container.id).pid == container.pid
    shim.call("Start", version="v2", id=container.id)
    assert shim.call("Connect", version="v2", id=container.id).task_pid == container.pid


def test_state_tells_everything(shim):
    streams = shim.streams(stdin=True, stderr=True)
    container = shim.container(["sleep", "1000"], streams=streams)
    state = container.call("State")
    assert (state.id, state.bundle, state.pid) == (container.id, str(container.bundle), container.pid)
    assert {n: getattr(state, n) for n in ("stdin", "stdout", "stderr")} == streams.fields
    assert (state.terminal, state.exit_status, state.HasField("exited_at")) == (False, 0, False)
    container.start()
    container.kill(signal.SIGKILL)
    before = time.time()
    assert container.wait() == 137
    state = container.call("State")
    assert state.exit_status == 137
    assert abs(state.exited_at.ToNanoseconds() / 1e9 - before) < 30


def test_wait_tells_the_same_to_everybody_and_for_ever(shim):
    streams = shim.streams()
    container = shim.running(["sh", "-c", "trap 'exit 3' TERM; echo up; sleep 1000 & wait"], streams=streams)
    with shim.process.connect() as other:
        waiting = [shim.begin("Wait", id=container.id), other.begin("Wait", id=container.id)]
        streams.read_until(b"up")
        container.kill(signal.SIGTERM)
        answers = [*(w.result() for w in waiting), container.call("Wait")]
    assert {a.exit_status for a in answers} == {3}
    assert len({a.exited_at.ToNanoseconds() for a in answers}) == 1
    deleted = container.delete()
    assert (deleted.pid, deleted.exit_status) == (container.pid, 3)
    assert deleted.exited_at == answers[0].exited_at


def test_wait_that_its_client_gives_up_harms_no_other(shim):
    container = shim.running()
    with shim.process.connect() as other:
        other.begin("Wait", id=container.id)
    waiting = container.begin("Wait")
    container.kill()
    assert waiting.result().exit_status == 137


# Create.


def test_create_refuses_an_id_that_is_taken(shim):
    container = shim.container()
    with raises(AlreadyExists, container.id):
        shim.container(container.bundle, id=container.id)
    assert container.state() == "CREATED"


def test_two_creates_at_once_with_one_id(shim):
    bundles = [shim.make_bundle(["sleep", "1000"]) for _ in range(2)]
    calls = [shim.begin("Create", id="one", bundle=str(b), options=options()) for b in bundles]
    outcomes = []
    for call in calls:
        try:
            outcomes.append(call.result().pid)
        except AlreadyExists:
            outcomes.append(None)
    assert sorted(o is None for o in outcomes) == [False, True]
    assert shim.call("State", id="one").pid in outcomes


def test_an_id_is_free_after_delete_and_after_a_failed_create(shim):
    for _ in range(2):
        with raises(NotFound, "runtime", "norunc"):
            shim.container(id="again", runtime="norunc")
        shim.container(id="again").delete()


def test_create_takes_the_options_of_runc(shim):
    runc = RuncOptions(binary_name="crun", no_pivot_root=True)
    runc_any = options()
    runc_any.Pack(runc)
    bundle = shim.make_bundle(["sleep", "1000"])
    shim.call("Create", id="o", bundle=str(bundle), options=runc_any)
    assert shim.inspect("o")["runtime_kind"] == "crun"


@pytest.mark.parametrize(
    ("type_url", "value", "words"),
    [
        ("some.Options", b"", ["some.Options", "not known"]),
        ("containerd.runc.v1.Options", b"\xff", ["containerd.runc.v1.Options", "cannot be decoded"]),
        ("runtimeoptions.v1.Options", b"\xff", ["runtimeoptions.v1.Options", "cannot be decoded"]),
    ],
)
def test_create_refuses_options_it_cannot_read(shim, type_url, value, words):
    bundle = shim.make_bundle(["true"])
    with raises(InvalidArgument, *words):
        shim.call("Create", id="o", bundle=str(bundle), options={"type_url": type_url, "value": value})


def test_a_config_key_that_nobody_knows_is_refused(shim):
    with raises(InvalidArgument, "memory_byte", "unknown key"):
        shim.container(memory_byte=1 << 20)


# Start, Exec, Delete: which state they need.


def test_delete_refuses_what_runs(shim):
    container = shim.running()
    with raises(FailedPrecondition, "cannot delete", "running"):
        container.delete()
    container.exec("e", ["sleep", "1000"])
    with raises(FailedPrecondition, "cannot delete", "running"):
        container.delete("e")
    container.kill(signal.SIGKILL, "e")
    assert container.wait("e") == 137
    assert container.delete("e").exit_status == 137
    with raises(NotFound, "e"):
        container.delete("e")
    container.end()
    with raises(NotFound, container.id):
        container.delete()


def test_delete_of_a_container_that_never_ran(shim):
    container = shim.container()
    waiting = container.begin("Wait", timeout=20)
    answer = container.delete()
    assert (answer.pid, answer.exit_status, answer.HasField("exited_at")) == (container.pid, 0, False)
    with raises(NotFound, container.id):
        waiting.result()
    with raises(NotFound, container.id):
        container.call("State")
    assert not os.path.exists(f"/proc/{container.pid}")


def test_delete_of_an_exec_that_never_ran(shim):
    container = shim.running()
    container.add_exec("e", ["true"])
    assert container.state("e") == "CREATED"
    waiting = container.begin("Wait", exec_id="e", timeout=20)
    answer = container.delete("e")
    assert (answer.pid, answer.exit_status, answer.HasField("exited_at")) == (0, 0, False)
    with raises(NotFound, "e"):
        waiting.result()


def test_exec_refuses(shim):
    container = shim.running()
    container.add_exec("e", ["true"])
    with raises(AlreadyExists, "e"):
        container.add_exec("e", ["true"])
    with raises(AlreadyExists, container.id):
        container.add_exec(container.id, ["true"])
    with raises(InvalidArgument, "exec id"):
        container.add_exec("../e", ["true"])
    with raises(InvalidArgument, "process of exec f", "args"):
        container.add_exec("f", [])
    with raises(InvalidArgument, "process of exec f"):
        container.call("Exec", exec_id="f", spec={"type_url": PROCESS_URL, "value": b"{"})
    container.call("Pause")
    with raises(FailedPrecondition, "cannot exec in", "paused"):
        container.add_exec("f", ["true"])
    with raises(FailedPrecondition, "cannot exec in", "paused"):
        container.start("e")
    container.call("Resume")
    container.kill()
    container.wait()
    with raises(FailedPrecondition, "cannot exec in", "stopped"):
        container.add_exec("f", ["true"])
    with raises(FailedPrecondition, container.id, "init process is not running"):
        container.start("e")


def test_state_of_an_exec(shim):
    container = shim.running()
    streams = shim.streams()
    container.exec("e", ["sleep", "1000"], streams)
    state = container.call("State", exec_id="e")
    assert (state.id, state.exec_id, state.stdout) == ("e", "e", streams.fields["stdout"])
    assert state.pid != container.pid
    container.call("Pause")
    assert container.state("e") == "PAUSED"
    container.call("Resume")
    assert container.state("e") == "RUNNING"
    container.kill(signal.SIGTERM, "e")
    assert container.wait("e") == 128 + signal.SIGTERM
    assert container.state("e") == "STOPPED"
    assert container.state() == "RUNNING"


# Every verb in every state, through the socket; what each state allows is elsewhere.

REFUSED = {
    "CREATED": ["Pause", "Resume", "Checkpoint"],
    "RUNNING": ["Start", "Delete", "Resume"],
    "PAUSED": ["Start", "Delete", "Pause", "Exec"],
    "STOPPED": ["Start", "Pause", "Resume", "Checkpoint", "Exec", "Update", "Kill", "ResizePty"],
}
VERBS = {"ResizePty": "resize", "Exec": "exec in"}


def bring_to(container, state: str) -> None:
    if state != "CREATED":
        container.start()
    if state == "PAUSED":
        container.call("Pause")
    if state == "STOPPED":
        container.kill()
        container.wait()


@pytest.mark.parametrize("state", REFUSED)
def test_what_a_state_refuses(shim, state):
    container = shim.container()
    bring_to(container, state)
    for method in REFUSED[state]:
        if method == "Kill":
            with raises(NotFound, "process already finished"):
                container.kill()
        else:
            with raises(FailedPrecondition, f"cannot {VERBS.get(method, method.lower())}", state.lower()):
                container.call(method, **OF_A_CONTAINER[method])
        assert container.state() == state


@pytest.mark.parametrize("state", ["CREATED", "RUNNING", "STOPPED"])
def test_what_the_state_of_an_exec_refuses(shim, state):
    container = shim.running()
    container.add_exec("e", ["sleep", "1000"])
    if state != "CREATED":
        container.start("e")
        with raises(FailedPrecondition, "cannot start", "running"):
            container.start("e")
    if state == "CREATED":
        with raises(FailedPrecondition, "process not created"):
            container.kill(signal.SIGTERM, "e")
    elif state == "RUNNING":
        with raises(FailedPrecondition, "cannot delete", "running"):
            container.delete("e")
    else:
        container.kill(signal.SIGKILL, "e")
        container.wait("e")
        with raises(NotFound, "process already finished"):
            container.kill(signal.SIGTERM, "e")
        with raises(FailedPrecondition, "cannot resize", "stopped"):
            container.call("ResizePty", exec_id="e", width=1, height=1)
    assert container.state("e") == state


def test_two_starts_at_once(shim):
    container = shim.container()
    calls = [container.begin("Start") for _ in range(2)]
    assert calls[0].result().pid == container.pid
    with raises(FailedPrecondition, "cannot start", "running"):
        calls[1].result()
    container.add_exec("e", ["sleep", "1000"])
    calls = [container.begin("Start", exec_id="e") for _ in range(2)]
    assert calls[0].result().pid
    with raises(FailedPrecondition, "cannot start", "running"):
        calls[1].result()


def test_two_deletes_at_once(shim):
    container = shim.running(["true"])
    container.wait()
    calls = [container.begin("Delete") for _ in range(2)]
    assert calls[0].result().pid == container.pid
    with raises(NotFound, container.id):
        calls[1].result()


# Kill.


def test_kill_of_what_has_ended_is_not_found(shim):
    """kubelet stops trying at this code, and only at this one."""
    container = shim.running()
    container.exec("e", ["true"])
    container.wait("e")
    with raises(NotFound, "process already finished"):
        container.kill(signal.SIGTERM, "e")
    container.kill()
    container.wait()
    for everybody in (False, True):
        with raises(NotFound, "process already finished"):
            container.kill(everybody=everybody)
    container.delete()
    with raises(NotFound, container.id):
        container.kill()


def test_signal_0_asks_whether_it_is_there(shim):
    container = shim.running()
    container.kill(0)
    assert container.state() == "RUNNING"


# Pause, Resume, Update, Stats, Pids.


def test_update_refuses(shim):
    container = shim.running()
    with raises(InvalidArgument, "resources of Update"):
        container.call("Update", resources={"type_url": RESOURCES_URL, "value": b"nonsense"})
    with raises(InvalidArgument, "resources of Update", "memory"):
        container.call("Update", resources=json_any(RESOURCES_URL, {"memory": 5}))
    container.kill()
    container.wait()
    with raises(FailedPrecondition, "cannot update", "stopped"):
        container.call("Update", resources=json_any(RESOURCES_URL, {}))


def test_stats_of_a_created_a_running_and_a_stopped_container(shim):
    container = shim.container(["sh", "-c", "while :; do :; done"])
    stats = container.call("Stats").stats
    metrics = {"io.containerd.cgroups.v1.Metrics": MetricsV1, "io.containerd.cgroups.v2.Metrics": MetricsV2}
    assert stats.type_url in metrics
    container.start()
    first = metrics[stats.type_url].FromString(container.call("Stats").stats.value)
    assert first.pids.current >= 1
    container.call("Pause")
    paused = metrics[stats.type_url].FromString(container.call("Stats").stats.value)
    assert paused.pids.current >= 1
    container.call("Resume")
    container.kill()
    container.wait()
    try:
        container.call("Stats")
    except NotFound as error:
        assert "cgroup" in str(error)  # noqa: PT017 - both answers are right


def test_pids_name_the_execs(shim):
    streams = shim.streams()
    container = shim.running(["sh", "-c", "sleep 1000 & echo up; wait"], streams=streams)
    streams.read_until(b"up")
    pid = container.exec("e", ["sleep", "1000"])
    processes = container.call("Pids").processes
    assert len(processes) == 3
    info = {p.pid: p.info for p in processes}
    assert {container.pid, pid} <= info.keys()
    assert info[pid].type_url == "containerd.runc.v1.ProcessDetails"
    assert ProcessDetails.FromString(info[pid].value).exec_id == "e"
    assert not info[container.pid].type_url
    container.kill()
    container.wait()
    # Until it is deleted: containerd takes a shim without processes for one that was never used.
    assert container.pids() == [container.pid]


# ResizePty, CloseIO, Connect, Checkpoint.


def test_resize_and_close_without_terminal_or_stdin_do_nothing(shim):
    container = shim.container()
    for _ in range(2):
        container.call("ResizePty", width=80, height=25)
        container.call("CloseIO", stdin=True)
        container.call("CloseIO", stdin=False)
    container.start()
    container.kill()
    container.wait()
    container.call("CloseIO", stdin=True)
    with raises(FailedPrecondition, "cannot resize", "stopped"):
        container.call("ResizePty", width=80, height=25)


def test_connect_never_fails(shim):
    container = shim.container()
    answer = container.call("Connect")
    assert (answer.shim_pid, answer.task_pid) == (shim.process.pid, container.pid)
    answer = shim.call("Connect", id="nobody")
    assert (answer.shim_pid, answer.task_pid) == (shim.process.pid, 0)


def test_checkpoint_needs_a_running_container_and_a_path(shim):
    container = shim.container()
    with raises(FailedPrecondition, "cannot checkpoint", "created"):
        container.call("Checkpoint", path="/tmp/image")
    container.start()
    with raises(InvalidArgument, "path"):
        container.call("Checkpoint")


# Inspect.


def test_inspect_tells_how_the_shim_is(shim):
    container = shim.container()
    about = shim.inspect()
    assert about["pid"] == shim.process.pid
    assert about["containers"] == [container.id]
    assert about["connections"] == 1
    assert about["children"] == 1
    assert about["fds"] > 5
    assert about["rss_bytes"] > 1 << 20


def test_inspect_tells_about_a_container(shim):
    streams = shim.streams()
    container = shim.container(["sh", "-c", "exit 3"], streams=streams, memory_bytes=64 << 20)
    about = container.inspect()
    assert (about["id"], about["pid"], about["status"]) == (container.id, container.pid, "created")
    assert (about["exit_status"], about["exited_at"], about["started_at"]) == (None, None, None)
    assert about["limits"]["memory"]["limit"] == 64 << 20
    container.add_exec("e", ["true"])
    assert [e["id"] for e in container.inspect()["execs"]] == ["e"]
    container.start()
    container.wait()
    streams.read()
    about = container.inspect()
    assert (about["status"], about["exit_status"], about["oom_killed"]) == ("stopped", 3, False)
    assert about["exited_at"].endswith("Z")
    assert [s["name"] for s in about["streams"]] == [f"{container.id} stdout"]
    with raises(NotFound, "nobody"):
        shim.inspect("nobody")


def test_inspect_tells_about_the_streams_of_an_exec(shim, tmp_path):
    """Its log is on a disk without room: nothing is lost yet, and it waits."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("none", str(disk), "tmpfs", 0, "size=4k")
    container = shim.running()
    spec = json_any(
        PROCESS_URL,
        {"args": ["sh", "-c", "yes | head -c 9000; sleep 1000"], "cwd": "/", "env": ["PATH=/bin"]},
    )
    container.call("Exec", exec_id="e", spec=spec, stdout=f"file://{disk}/log")
    container.start("e")

    def streams() -> list[dict[str, object]]:
        (about,) = container.inspect()["execs"]
        assert about["dropped_bytes"] == 0
        return [s for s in about["streams"] if s["stalled_errno"] == errno.ENOSPC]

    until(streams, "a stream that waits")
    assert streams()[0]["name"] == f"{container.id}/e stdout and stderr"
    mount("none", str(disk), "tmpfs", MS_REMOUNT, "size=1m")
    until(lambda: (disk / "log").stat().st_size == 9000 and not streams(), "the rest of it")
    assert container.end() == 137
    umount2(str(disk), 0)
