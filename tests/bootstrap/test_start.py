"""``start``, ``delete``, ``-info`` and ``-v`` as containerd executes them: what they print, and what is there afterwards."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from support import bed
from support.client_streams import DEADLINE_S, poll
from support.shims import CgroupParent, options

from shim.bootstrap import start
from shim.bootstrap.listener import listen
from shim.errors import ShimError
from shim.linux.mount_api import MS_BIND, MS_RDONLY, MS_REMOUNT
from shim.linux.mounts import mount, umount2
from shim.proto.runc_options_pb2 import Options
from shim.proto.task_v3_pb2 import DeleteResponse
from shim.service.options import start_options

pytestmark = pytest.mark.root


def status(pid: int, key: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:"))


def kill(pid: int) -> None:
    """It has ended, whenever somebody reaps it."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert poll(pidfd, select.POLLIN, DEADLINE_S)
    os.close(pidfd)


def session(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") :].split()[4])


def test_the_answer_is_the_address_and_nothing_else(program, bundle):
    """That the pipe of the answer has ended while the shim lives shows that the shim does not hold it."""
    folder = bundle(["true"])
    address = f"unix://{program.socket('c1')}"
    assert program.start(folder, "c1") == address
    assert (folder / "address").read_text() == address
    assert not (folder / "s").is_symlink()
    pid = program.pid()
    assert os.path.samefile(f"/proc/{pid}/cwd", folder)
    assert session(pid) == pid
    assert status(pid, "Umask") == "0022"
    fds = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert fds[0] == "/dev/null"
    assert fds[1] == fds[2] == f"{folder}/shim.log"
    assert not [target for fd, target in fds.items() if fd > 3 and target.startswith("pipe:")]


def test_newer_ones_choose_the_directory(program, bundle):
    folder = bundle(["true"])
    address = program.start(folder, "c1", program.params("c1", log_level=-4))
    path = Path(address.removeprefix("unix://"))
    assert path.parent == program.root / "s"
    assert (folder / "s").resolve() == path.parent
    assert "level=debug" in (folder / "shim.log").read_text() or program.pid()


@pytest.mark.parametrize("kind", ["sandbox", "container"])
def test_to_each_container_of_a_pod_the_answer_is_version_2(program, bundle, kind):
    """The plain address is. After a 3 containerd would not have the others cleared away when the shim is killed."""
    pod = {"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": "c1"}
    for stdin in (b"", program.params("c1", socket_dir="")):
        assert program.start(bundle(["true"], annotations=pod), "c1", stdin).startswith("unix:///")


def test_a_sandbox_has_no_config_json(program, tmp_path):
    """The options of its runtime come with start alone, and wait for whoever makes the sandbox."""
    wanted = AnyMessage(
        type_url="containerd.runc.v1.Options", value=Options(binary_name="crun").SerializeToString()
    )
    answer = json.loads(program.start(tmp_path, "c1", wanted.SerializeToString()))
    assert answer.pop("address").startswith("unix:///")
    assert answer == {"version": 3, "protocol": "ttrpc"}
    assert start_options(str(tmp_path)) == wanted


def test_both_api_versions_answer(program, bundle):
    program.start(bundle(["true"]), "c1")
    with program.connect() as connection:
        for version in ("v2", "v3"):
            assert connection.call("Connect", version=version, id="c1").shim_pid == program.pid()


def test_of_two_at_once_both_name_the_same_shim(program, bundle):
    folder = bundle(["true"])
    program.addresses.add(f"unix://{program.socket('c1')}")
    clients = [
        subprocess.Popen(
            program.command("start", "c1"),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=program.env,
        )
        for _ in range(3)
    ]
    answers = {client.communicate(timeout=30)[0].decode() for client in clients}
    assert answers == program.addresses
    assert [client.returncode for client in clients] == [0, 0, 0]
    config = os.fsencode(f"OCISHIM_CONFIG={program.config}")
    shims = [p for p in Path("/proc").glob("[0-9]*") if config in _environment(p)]
    assert [int(shim.name) for shim in shims] == [program.pid()]
    assert sorted(os.listdir(folder)) == ["address", "config.json", "shim.log"]


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def test_a_pod_has_one_shim(program, bundle):
    pod = {"io.kubernetes.cri.sandbox-id": "pod/../1\ud800\0"}
    folders = [bundle(["true"], annotations=pod) for _ in range(2)]
    answers = [program.start(folder, f"c{i}") for i, folder in enumerate(folders)]
    assert answers[0] == answers[1]
    assert [(folder / "address").read_text() for folder in folders] == answers


def test_a_dead_shims_socket_is_replaced(program, bundle):
    folder = bundle(["true"])
    program.start(folder, "c1")
    first = program.pid()
    kill(first)
    assert program.socket("c1").exists()
    program.start(folder, "c1")
    assert program.pid() != first


def test_a_shim_that_containerd_gives_no_container_ends_although_it_is_connected(program, bundle):
    """A containerd that was killed before Create finds the shim again in its next life, and wants nothing of it."""
    program.config.write_text(program.config.read_text().replace("3600.0", "0.5"))
    program.start(bundle(["true"]), "c1", TTRPC_ADDRESS=f"{program.root}/ttrpc")
    with program.connect() as connection:
        pidfd = os.pidfd_open(connection.call("Connect", id="c1").shim_pid)
        assert poll(pidfd, select.POLLIN, DEADLINE_S)
        os.close(pidfd)


def test_settings_of_the_surroundings(cgroups, program, bundle):
    """The score for the OOM killer, the cgroup, core scheduling: from parent, options and environment."""
    folder = bundle(["sleep", "100"])
    asked = Options(shim_cgroup=f"{cgroups.path}/shim")
    wire = AnyMessage(type_url="containerd.runc.v1.Options", value=asked.SerializeToString())
    parent = ["sh", "-c", 'echo 77 > /proc/$$/oom_score_adj; "$@"; exit $?', "parent"]
    done = program.run(
        [*parent, *program.command("start", "c1")], folder, wire.SerializeToString(), SCHED_CORE="1"
    )
    program.addresses.add(done.stdout.decode())
    pid = program.pid()
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 78
    assert f"{cgroups.path}/shim" in Path(f"/proc/{pid}/cgroup").read_text()
    log = (folder / "shim.log").read_text()
    assert log.count("SCHED_CORE") == (0 if _has_core_scheduling() else 1), log
    with program.connect() as connection:
        wanted = options(cgroup_parent=cgroups.path)
        init = connection.call("Create", id="c1", bundle=str(folder), options=wanted).pid
        # A subreaper: the runtime has ended, and its child is the shim's now.
        assert status(init, "PPid") == str(pid)


def _has_core_scheduling() -> bool:
    code = "from shim.linux.prctl import create_core_scheduling as c; c()"
    done = subprocess.run([sys.executable, "-c", code], cwd=bed.CHECKOUT, capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("log", [False, True])
def test_a_bundle_that_cannot_be_written(program, tmp_path, log):
    """Without a log the shim is not started; with one it runs by then, and is ended again."""
    folder = tmp_path / "ro"
    folder.mkdir()
    os.mkfifo(folder / "log")
    keeper = os.open(folder / "log", os.O_RDWR) if log else None
    mount(str(folder), str(folder), "", MS_BIND, "")
    mount("", str(folder), "", MS_BIND | MS_REMOUNT | MS_RDONLY, "")
    try:
        done = program.run(program.command("start", "c1"), folder)
    finally:
        umount2(str(folder), 0)
        if keeper is not None:
            os.close(keeper)
    assert (done.returncode, done.stdout.count(b"\n")) == (1, 1)
    assert b"Read-only file system" in done.stdout
    assert not program.socket("c1").exists()


def test_a_log_that_nobody_reads_is_a_file(program, bundle):
    folder = bundle(["true"])
    os.mkfifo(folder / "log")
    program.start(folder, "c1")
    assert program.pid()
    assert "serves" in (folder / "shim.log").read_text()


def test_no_interpreter(monkeypatch, state_root, tmp_path):
    monkeypatch.setattr(start.sys, "executable", "/nowhere/python")
    path = state_root / "sock"
    with (
        listen(str(path)) as listener,
        pytest.raises(ShimError, match="shim of container c1 cannot be started"),
    ):
        start.spawn_shim(start.Plan(listener, str(path), "ns", "c1", str(tmp_path), {}))
    assert not path.exists()


# delete


def deleted(program, folder: Path, container_id: str = "c1", bundle: Path | None = None) -> DeleteResponse:
    done = subprocess.run(
        program.command("delete", container_id, bundle),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=program.env,
        timeout=30,
        check=True,
    )
    assert done.stderr == b""
    return DeleteResponse.FromString(done.stdout)


def test_delete_of_what_never_existed(program, tmp_path):
    before = time.time()
    for bundle in (tmp_path, None):
        answer = deleted(program, tmp_path, "nobody", bundle)
        assert (answer.pid, answer.exit_status) == (0, 137)
        assert before <= answer.exited_at.ToNanoseconds() / 1e9 <= time.time()


def test_delete_after_a_killed_shim(cgroups: CgroupParent, program, bundle):
    folder = bundle(["sleep", "1000"])
    program.start(folder, "c1")
    pid = program.pid()
    with program.connect() as connection:
        wanted = options(cgroup_parent=cgroups.path)
        init = connection.call("Create", id="c1", bundle=str(folder), options=wanted).pid
        connection.call("Start", id="c1")
        kill(pid)
    assert Path(f"/proc/{init}").exists()
    answer = deleted(program, folder, bundle=folder)
    assert (answer.pid, answer.exit_status) == (init, 137)
    assert not program.socket("c1").exists()
    assert deleted(program, folder, bundle=folder).exit_status == 137
    bed.until(lambda: not Path(f"/proc/{init}").exists(), "the container lives on")
    assert cgroups.groups() == set()


def test_delete_finds_how_it_ended(cgroups: CgroupParent, program, bundle):
    folder = bundle(["sh", "-c", "exit 9"])
    program.start(folder, "c1")
    with program.connect() as connection:
        connection.call("Create", id="c1", bundle=str(folder), options=options(cgroup_parent=cgroups.path))
        connection.call("Start", id="c1")
        ended = connection.call("Wait", id="c1")
        kill(program.pid())
    # Run beside the bundle, of which nothing is said, as for a container of a pod.
    answer = deleted(program, bundle(["true"]), folder.name)
    assert (answer.exit_status, answer.exited_at) == (9, ended.exited_at)


def test_delete_leaves_a_living_shim_of_others_alone(program, bundle):
    pod = {"io.kubernetes.cri.sandbox-id": "pod1"}
    folders = [bundle(["true"], annotations=pod) for _ in range(2)]
    for i, folder in enumerate(folders):
        program.start(folder, f"c{i}")
    deleted(program, folders[1], "c1", folders[1])
    with program.connect() as connection:
        assert connection.call("Connect", id="c0").shim_pid


def test_a_start_imports_little():
    """Without a template whoever starts a shim waits for all of it; what the shim needs it imports itself."""
    program = "import sys, shim.bootstrap.containerd; print({'asyncio', 'shim.task', 'shim.runtime'} & sys.modules.keys())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(bed.CHECKOUT)}, capture_output=True, check=True
    )
    assert done.stdout == b"set()\n"
