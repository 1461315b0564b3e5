"""An OCI runtime that hangs, crashes or lies: it is killed at the deadline, and nobody else waits for it.

The fakes are shell scripts around runc that do something else for one verb. Their name tells the shim that they are
runcs, so that it does not ask.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import bed
from support.client_streams import until
from support.shims import Container, Shim, options, raises

from shim.errors import Canceled, DeadlineExceeded, FailedPrecondition, NotFound, ShimError, Unknown

pytestmark = pytest.mark.root

TIMEOUT_S = 0.4
HANG = "sleep 1000"
SLEEP = ["sleep", "1000"]


class Fakes:
    """Makes runtimes; ``gate`` is a script that hangs until ``open_gate``."""

    def __init__(self, folder: Path) -> None:
        self.real = bed.need_runtime("runc")
        self._folder = folder
        self._closed = folder / "closed"
        self._closed.touch()
        self.gate = f"while [ -e {self._closed} ]; do sleep 0.02; done"

    def open_gate(self) -> None:
        self._closed.unlink()

    def __call__(self, verb: str, script: str) -> str:
        """A runtime that runs ``script`` first when it is asked for ``verb``."""
        file = self._folder / "runc-fake"
        file.write_text(f"""#!/bin/sh
            for word in "$@"; do
                case $word in
                    {verb}) {script}; break ;;
                    create|start|exec|kill|delete|pause|resume|update) break ;;
                esac
            done
            exec {self.real} "$@"
        """)
        file.chmod(0o755)
        return str(file)


@pytest.fixture
def fake(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path)


def begin_create(shim: Shim, runtime: str, **config: object):
    bundle = shim.make_bundle(SLEEP)
    return shim.begin("Create", id="slow", bundle=str(bundle), options=options(runtime=runtime, **config))


def assert_served(shim: Shim, *containers: Container) -> None:
    """What concerns no runtime is answered, on this and on another connection; another container runs an exec."""
    other = shim.running()
    with shim.process.connect() as second:
        for container in (*containers, other):
            assert container.call("State").pid == container.pid
            assert container.pid in container.pids()
            for method, fields in [("Kill", {"signal": 0}), ("Stats", {}), ("Connect", {}), ("State", {})]:
                second.call(method, id=container.id, **fields)
    other.exec("e", ["true"])
    assert other.wait("e") == 0
    assert other.end() == 137


# While it hangs.


def test_nobody_waits_for_a_create(shim, fake):
    creating = begin_create(shim, fake("create", fake.gate))
    assert_served(shim)
    assert not creating.done
    fake.open_gate()
    assert creating.result().pid


def test_nobody_waits_for_a_start(shim, fake):
    container = shim.container(runtime=fake("start", fake.gate))
    starting, waiting = container.begin("Start"), container.begin("Wait")
    assert_served(shim, container)
    assert container.state() == "CREATED"
    assert not starting.done
    container.kill(signal.SIGKILL)
    assert waiting.result().exit_status == 137
    fake.open_gate()
    with pytest.raises(ShimError):
        starting.result()
    assert container.state() == "STOPPED"


def test_nobody_waits_for_an_exec(shim, fake):
    container = shim.running(runtime=fake("exec", fake.gate))
    container.add_exec("slow", ["sh", "-c", "exit 3"])
    starting, waiting = container.begin("Start", exec_id="slow"), container.begin("Wait", exec_id="slow")
    assert_served(shim, container)
    assert container.state("slow") == "CREATED"
    fake.open_gate()
    assert starting.result().pid
    assert waiting.result().exit_status == 3


def test_nobody_waits_for_a_pause(shim, fake):
    container = shim.running(runtime=fake("pause", fake.gate))
    pausing, waiting = container.begin("Pause"), container.begin("Wait")
    until(lambda: container.state() == "PAUSING", "pausing")
    assert_served(shim, container)
    container.kill(signal.SIGKILL)
    assert waiting.result().exit_status == 137
    fake.open_gate()
    with pytest.raises(ShimError):
        pausing.result()
    assert container.state() == "STOPPED"


def test_sigkill_between_the_freezing_and_the_end_of_a_pause(shim, fake, tmp_path):
    """cgroup v1 holds what is frozen, even when it is killed; and runc deletes no container whose group is frozen."""
    frozen = tmp_path / "frozen"
    container = shim.running(runtime=fake("pause", f'{fake.real} "$@"; touch {frozen}; {fake.gate}; exit 0'))
    pausing, waiting = container.begin("Pause"), container.begin("Wait")
    until(frozen.exists, "a frozen group")
    assert container.state() == "PAUSING"
    container.kill(signal.SIGKILL)
    fake.open_gate()
    assert waiting.result().exit_status == 137
    with contextlib.suppress(ShimError):
        pausing.result()
    assert container.delete().exit_status == 137


def test_a_pause_waits_for_an_exec_that_starts(shim, fake):
    """Else the exec would freeze on its way into the container, and its runtime with it."""
    container = shim.running(runtime=fake("exec", fake.gate))
    container.add_exec("slow", ["sleep", "1000"])
    container.add_exec("late", ["sleep", "1000"])
    starting, pausing = container.begin("Start", exec_id="slow"), container.begin("Pause")
    until(lambda: container.state() == "PAUSING", "pausing")
    with raises(FailedPrecondition, "cannot exec in", "pausing"):
        container.start("late")
    fake.open_gate()
    assert starting.result().pid
    pausing.result()
    assert container.state() == container.state("slow") == "PAUSED"


def test_nobody_waits_for_a_delete(shim, fake):
    container = shim.running(["true"], runtime=fake("delete", fake.gate))
    assert container.wait() == 0
    deleting = container.begin("Delete")
    assert_served(shim)
    assert container.state() == "STOPPED"
    assert container.wait() == 0
    fake.open_gate()
    assert deleting.result().pid == container.pid
    with raises(NotFound, container.id):
        container.state()


def test_a_container_is_deleted_under_its_exec(shim, fake):
    container = shim.running(runtime=fake("exec", fake.gate))
    container.add_exec("slow", ["true"])
    starting, waiting = container.begin("Start", exec_id="slow"), container.begin("Wait", exec_id="slow")
    container.end()
    with raises(NotFound, "slow", "was deleted while it started"):
        starting.result()
    assert waiting.result().exit_status == 255


def test_a_container_ends_after_the_start_of_an_exec(shim, fake):
    """Until then it runs, and takes further execs, as under containerd's own shim."""
    container = shim.running(runtime=fake("exec", fake.gate))
    container.add_exec("slow", ["true"])
    starting = container.begin("Start", exec_id="slow")
    until(lambda: shim.inspect()["children"] == 2, "the runtime")
    container.kill()
    until(lambda: not Path(f"/proc/{container.pid}").exists(), "the init has ended")
    assert container.state() == "RUNNING"
    container.add_exec("late", ["true"])
    fake.open_gate()
    with pytest.raises(ShimError, match="OCI runtime exec failed"):
        starting.result()
    assert container.wait() == 137
    assert container.state("slow") == container.state("late") == "CREATED"
    with raises(FailedPrecondition, "init process is not running"):
        container.start("late")
    container.delete()


def test_a_container_is_deleted_while_it_is_created(shim, fake):
    """Its runtime is killed, and what that has made so far is undone."""
    creating = begin_create(shim, fake("create", f'{fake.real} "$@"; {fake.gate}'))
    until(lambda: shim.inspect()["children"] == 1, "the runtime")
    with raises(NotFound, "slow"):
        shim.call("Delete", id="slow")
    with raises(Canceled, "slow"):
        creating.result()
    fake.open_gate()
    shim.container(id="slow").delete()


def test_an_exec_is_deleted_while_it_starts(shim, fake):
    """The runtime is killed; that takes a moment, not as long as a runtime may take."""
    container = shim.running(runtime=fake("exec", fake.gate))
    streams = shim.streams(stdin=True)
    container.add_exec("slow", ["true"], streams)
    starting, waiting = container.begin("Start", exec_id="slow"), container.begin("Wait", exec_id="slow")
    assert container.delete("slow").exit_status == 255
    with raises(NotFound, "slow", "was deleted while it started"):
        starting.result()
    assert waiting.result().exit_status == 255
    assert streams.read() == b""
    assert shim.inspect()["children"] == 1
    fake.open_gate()
    container.exec("slow", ["true"])
    assert container.wait("slow") == 0
    container.end()


def test_a_container_that_was_killed_while_it_started_is_deleted(shim, fake):
    container = shim.container(runtime=fake("start", fake.gate))
    starting = container.begin("Start")
    with raises(FailedPrecondition, container.id, "is being started"):
        container.delete()
    container.kill()
    assert container.wait() == 137
    assert container.delete().exit_status == 137
    with raises(NotFound, container.id, "was deleted while it started"):
        starting.result()


# At the deadline.


@pytest.mark.parametrize(
    "script",
    [
        HANG,
        "sh -c 'sleep 1000 & setsid sleep 1000 & wait' & wait",
        "kill -STOP $$",
        '{real} "$@"; sleep 1000',
    ],
    ids=["at once", "with children", "stopped", "with a container"],
)
def test_a_create_is_killed(shim, fake, script):
    with raises(DeadlineExceeded, "create slow", "was killed"):
        begin_create(
            shim, fake("create", script.replace("{real}", fake.real)), runtime_timeout=TIMEOUT_S
        ).result()
    assert shim.inspect()["containers"] == []
    shim.container(id="slow").delete()


def test_a_create_is_killed_and_so_is_what_clears_away(shim, fake, lender):
    """The init ends all the same; what the runtime wrote down is for a delete from disk, as containerd asks for one then."""
    runtime = fake("create", f'{fake.real} "$@"; {HANG} ;; delete) {HANG}')
    with raises(DeadlineExceeded, "create slow"):
        begin_create(shim, runtime, runtime_timeout=TIMEOUT_S).result()
    root = lender.root / "runtime" / "runc" / "tests"
    state = json.loads(
        subprocess.run([fake.real, "--root", root, "state", "slow"], capture_output=True, check=True).stdout
    )
    assert state["status"] == "stopped"
    fake("nothing", "true")
    program = "import sys; from shim.bootstrap.delete import delete_from_disk; delete_from_disk(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, state["bundle"]], check=True, cwd=bed.CHECKOUT)
    assert not (root / "slow").exists()


def test_a_create_fails_and_what_it_has_begun_ends_late(shim, fake, lender):
    """Where the runtime makes the groups, it has forgotten them then, and for a while they are busy."""
    group = f"/sys/fs/cgroup/pids{lender.cgroups.path}/slow"
    begun = f"if mkdir -p {group}; then sleep 1 & echo $! > {group}/cgroup.procs; fi"
    script = f"[ ! -d /sys/fs/cgroup/pids ] || {{ {begun}; }}; exit 1"
    with raises(Unknown, "create slow", "exited with 1"):
        begin_create(shim, fake("create", script), cgroup_parent=lender.cgroups.path).result()
    assert not os.path.exists(group)


def test_a_start_is_killed(shim, fake):
    container = shim.container(runtime=fake("start", HANG), runtime_timeout=TIMEOUT_S)
    with raises(DeadlineExceeded, "start", container.id):
        container.start()
    assert container.state() == "CREATED"
    container.delete()


@pytest.mark.parametrize("script", [HANG, '{real} "$@"; sleep 1000'], ids=["at once", "with a process"])
def test_an_exec_is_killed(shim, fake, script):
    runtime = fake("exec", script.replace("{real}", fake.real))
    container = shim.running(runtime=runtime, runtime_timeout=TIMEOUT_S)
    streams = shim.streams(stdin=True, stderr=True)
    container.add_exec("slow", SLEEP, streams)
    waiting = container.begin("Wait", exec_id="slow")
    with raises(DeadlineExceeded, "exec"):
        container.start("slow")
    assert waiting.result().exit_status == 255
    container.delete("slow")
    assert streams.read() == streams.read("stderr") == b""
    until(lambda: container.pids() == [container.pid], "the end of what was started")


def test_a_pause_is_killed(shim, fake):
    container = shim.running(runtime=fake("pause", HANG), runtime_timeout=TIMEOUT_S)
    with raises(DeadlineExceeded, "pause"):
        container.call("Pause")
    assert container.state() == "RUNNING"


@pytest.mark.parametrize("started", [True, False])
def test_a_delete_is_killed_and_can_be_tried_again(shim, fake, started):
    container = shim.container(["true"], runtime=fake("delete", fake.gate), runtime_timeout=TIMEOUT_S)
    if started:
        container.start()
        assert container.wait() == 0
    with raises(DeadlineExceeded, "delete"):
        container.delete()
    assert container.state() == ("STOPPED" if started else "CREATED")
    fake.open_gate()
    if not started:
        container.start()
    assert container.wait() == 0
    assert container.delete().exit_status == 0


def test_a_created_container_ends_while_its_delete_hangs(shim, fake):
    container = shim.container(runtime=fake("delete", fake.gate), runtime_timeout=TIMEOUT_S)
    deleting, waiting = container.begin("Delete"), container.begin("Wait")
    container.kill(signal.SIGKILL)
    with raises(DeadlineExceeded, "delete"):
        deleting.result()
    assert waiting.result().exit_status == 137
    assert container.state() == "STOPPED"
    fake.open_gate()
    container.delete()


# Crashes and lies.

PID_FILE = 'while [ "$1" != --pid-file ]; do shift; done'


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("kill -SEGV $$", Unknown, ["SIGSEGV"]),
        ("exit 3", Unknown, ["exited with 3"]),
        ("echo 'it is broken' >&2; exit 1", Unknown, ["create failed"]),
        ("exit 0", NotFound, ["left no pid"]),
        (f'{PID_FILE}; echo nonsense > "$2"; exit 0', NotFound, ["left no pid"]),
    ],
    ids=["crash", "exit", "words", "no pid", "nonsense"],
)
def test_a_create_fails(shim, fake, script, kind, words):
    streams = shim.streams(stderr=True)
    with raises(kind, *words):
        shim.container(runtime=fake("create", script), streams=streams)


def test_a_create_names_a_process_that_is_not_its_own(shim, fake):
    with pytest.raises(ShimError, match=str(os.getpid())):
        shim.container(runtime=fake("create", f'{PID_FILE}; echo {os.getpid()} > "$2"; exit 0'))


def test_a_terminal_that_never_comes(shim, fake):
    streams = shim.streams(terminal=True)
    with pytest.raises(ShimError):
        shim.container(runtime=fake("create", "exit 0"), streams=streams)


def test_a_runtime_that_is_removed(shim, fake):
    """CRI takes NotFound for success, and would leave the container's remains for ever."""
    runtime = Path(fake("nothing", "true"))
    container = shim.running(["true"], runtime=str(runtime))
    container.wait()
    away = runtime.rename(runtime.with_name("away"))
    with raises(FailedPrecondition, str(runtime)):
        container.delete()
    assert container.state() == "STOPPED"
    away.rename(runtime)
    container.delete()
