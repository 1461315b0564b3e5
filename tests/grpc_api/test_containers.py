"""Containers through the first API, by a client that was generated from containerd's own file."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import bed
from support.client_streams import until
from support.first_api import Refused, lend, poll_readable

from shim.linux.fd import OwnedFd
from shim.linux.pty import Winsize, set_winsize

pytestmark = pytest.mark.root


def said(path: Path, text: str) -> None:
    until(lambda: text in path.read_text(), f"{text!r} is not in {path}")


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out"
    path.touch()
    return path


def test_a_container_is_made_and_runs_and_is_gone_when_it_has_ended(any_server, bundle, out):
    folder = bundle(
        ["sh", "-c", "echo hello; exec sleep 1000"],
        process={"user": {"uid": 7, "gid": 8, "additionalGids": [9]}},
    )
    pid = any_server.create("c1", folder, stdout=str(out))
    said(out, "hello\n")
    (found,) = any_server.states().values()
    process = found["processes"][0]
    assert (found["id"], found["bundlePath"], found["status"]) == ("c1", str(folder), "running")
    assert (process["pid"], process["args"], process["cwd"]) == (
        pid,
        ["sh", "-c", "echo hello; exec sleep 1000"],
        "/",
    )
    assert process["user"] == {"uid": 7, "gid": 8, "additionalGids": [9]}
    assert any(entry.startswith("PATH=") for entry in process["env"])
    assert "terminal" not in process
    assert any_server.containers.ids() == ["c1"]
    any_server.kill("c1")
    assert any_server.containers.ids() == []


def test_what_the_machine_is(server):
    machine = server.call("State")["machine"]
    known = Path("/etc/machine-id")
    assert machine["id"] == (
        known.read_text().strip() if known.exists() and known.read_text().strip() else socket.gethostname()
    )
    assert machine["cpus"] == os.cpu_count()
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert int(machine["memory"]) == int(meminfo["MemTotal"].split()[0]) * 1024


def test_streams_are_fifos_that_the_client_made(any_server, bundle, tmp_path):
    paths = {name: str(tmp_path / name) for name in ("stdin", "stdout", "stderr")}
    for path in paths.values():
        os.mkfifo(path)
    any_server.create("c1", bundle(["sh", "-c", "read x; echo got $x; echo oops >&2"]), **paths)
    with open(paths["stdin"], "w") as stdin:
        stdin.write("a line\n")
    with open(paths["stdout"]) as stdout, open(paths["stderr"]) as stderr:
        assert (stdout.read(), stderr.read()) == ("got a line\n", "oops\n")
    any_server.gone("c1")


def test_dev_null_is_an_empty_input(any_server, bundle, out):
    script = "cat; echo end; exec sleep 1000"
    any_server.create("c1", bundle(["sh", "-c", script]), stdin="/dev/null", stdout=str(out))
    said(out, "end\n")
    any_server.kill("c1")


def test_a_container_is_paused_and_goes_on(any_server, bundle):
    any_server.create("c1", bundle(["sleep", "1000"]))
    for status in ("paused", "paused", "running", "running"):
        assert any_server.call("UpdateContainer", id="c1", status=status) == {}
        assert any_server.states()["c1"]["status"] == status
    any_server.call("UpdateContainer", id="c1", status="paused")
    any_server.kill("c1")


def test_a_signal_of_an_update_goes_to_the_init(any_server, bundle, out):
    script = "trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.05; done"
    any_server.create("c1", bundle(["sh", "-c", script]), stdout=str(out))
    said(out, "ready")
    any_server.call("UpdateContainer", id="c1", signal=int(signal.SIGUSR1))
    said(out, "usr1")
    any_server.gone("c1")


def test_a_further_process(any_server, bundle, out):
    any_server.create("c1", bundle(["sleep", "1000"]))
    script = 'echo "$(id -u) $(id -G)|$A|$PWD|$OCISHIM_TEST_SESSION."; exec sleep 1000'
    pid = int(
        any_server.call(
            "AddProcess", id="c1", args=["sh", "-c", script], env=["A=b"], cwd="/tmp", stdout=str(out),
            user={"uid": 5, "gid": 6, "additionalGids": [7, 8]},
        )["pid"]
    )  # fmt: skip
    said(out, "5 6 7 8|b|/tmp|.\n")
    init, process = any_server.states()["c1"]["processes"]
    assert process["pid"] == pid != init["pid"]
    assert process["args"] == ["sh", "-c", script]
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [7, 8]}
    assert (process["cwd"], process["env"][-1]) == ("/tmp", "A=b")
    any_server.call("Signal", id="c1", pid=pid, signal=15)
    until(lambda: len(any_server.states()["c1"]["processes"]) == 1, "the process stays")
    any_server.kill("c1")


def test_a_further_process_is_as_the_init_where_nothing_is_said(any_server, bundle, out):
    any_server.create("c1", bundle(["sleep", "1000"], process={"cwd": "/tmp", "user": {"uid": 3, "gid": 4}}))
    any_server.call("AddProcess", id="c1", args=["sh", "-c", "echo $(id -u) $(id -g) $PWD"], stdout=str(out))
    said(out, "3 4 /tmp\n")


def test_a_further_process_on_a_terminal_without_a_console(any_server, bundle, out):
    any_server.create("c1", bundle(["sleep", "1000"]))
    any_server.call(
        "AddProcess", id="c1", args=["sh", "-c", "test -t 0 && echo yes"], terminal=True, stdout=str(out)
    )
    said(out, "yes\n")


def test_a_process_that_somebody_in_the_container_started_gets_signals_too(server, bundle, out):
    server.create(
        "c1", bundle(["sh", "-c", "sleep 1000; echo ended with $?; exec sleep 1000"]), stdout=str(out)
    )
    with pytest.raises(Refused, match=r"NOT_FOUND: there is no process .* in container c1"):
        server.call("Signal", id="c1", pid=os.getpid(), signal=9)
    (pid,) = server.states()["c1"]["processes"]
    until(lambda: children(pid["pid"]), "the shell has started nothing")
    assert server.call("Signal", id="c1", pid=children(pid["pid"])[0], signal=9) == {}
    said(out, "ended with 137")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """The client's side of a terminal, and the path of the other side."""
    master, console = os.openpty()
    yield master, os.ttyname(console)
    os.close(console)
    os.close(master)


def test_a_console_is_the_terminal_of_the_init(any_server, bundle, out, terminal):
    master, path = terminal
    set_winsize(master, Winsize(rows=11, cols=222))
    any_server.create(
        "c1", bundle(["sh", "-c", "stty size; read x; echo got $x; stty size; read x"]), console=path
    )
    assert read_until(master, b"11 222\r\n") == b"11 222\r\n"
    any_server.end()
    any_server.start()
    set_winsize(master, Winsize(rows=33, cols=44))
    until(lambda: size_inside(any_server, out) == "33 44", "the size is the old one")
    os.write(master, b"line\n")
    assert read_until(master, b"33 44\r\n") == b"line\r\ngot line\r\n33 44\r\n"
    assert any_server.states()["c1"]["processes"][0]["terminal"] is True
    any_server.kill("c1")


def size_inside(server, path: Path) -> str:
    """The size of the init's terminal, which a further process finds in /proc."""
    path.write_text("")
    server.call("AddProcess", id="c1", args=["sh", "-c", "stty size < /proc/1/fd/0"], stdout=str(path))
    until(path.read_text, "no size")
    return path.read_text().strip()


def test_a_console_is_the_terminal_of_a_further_process(server, bundle, terminal):
    master, path = terminal
    server.create("c1", bundle(["sleep", "1000"]))
    server.call("AddProcess", id="c1", args=["sh", "-c", "tty; read x; echo got $x"], console=path)
    read_until(master, b"/dev/pts/0\r\n")
    os.write(master, b"line\n")
    assert read_until(master, b"got line\r\n") == b"line\r\ngot line\r\n"
    until(lambda: len(server.states()["c1"]["processes"]) == 1, "the process stays")


def test_a_console_whose_client_is_gone_harms_nobody(server, bundle, out):
    master, console = os.openpty()
    server.create(
        "c1", bundle(["sh", "-c", "while sleep 0.01; do echo line; done"]), console=os.ttyname(console)
    )
    read_until(master, b"line\r\n")
    os.close(console)
    os.close(master)
    server.call("AddProcess", id="c1", args=["echo", "still there"], stdout=str(out))
    said(out, "still there")
    server.kill("c1")


def test_a_console_is_as_it_was_when_nothing_came_of_it(server, bundle, terminal):
    _, path = terminal
    with OwnedFd(os.open(path, os.O_RDWR | os.O_NOCTTY)) as console:
        before = termios.tcgetattr(console.fileno())
        server.refuses(
            "UNKNOWN",
            "no-such",
            "CreateContainer",
            id="c1",
            bundlePath=str(bundle(["no-such"])),
            console=path,
        )
        assert termios.tcgetattr(console.fileno()) == before


def read_until(fd: int, text: bytes) -> bytes:
    data = b""
    while not data.endswith(text):
        assert poll_readable(fd), data
        data += os.read(fd, 1)
    return data


def test_a_container_of_the_command_line_is_the_same(server, bundle, out):
    command = [sys.executable, "-m", "shim", "--config", str(server.config)]
    subprocess.run(
        [*command, "run", "-d", str(bundle(["sleep", "1000"])), "c2"], check=True, stdout=subprocess.DEVNULL
    )
    server.create("c1", bundle(["sleep", "1000"]))
    assert {name: each["status"] for name, each in server.states().items()} == {
        "c1": "running",
        "c2": "running",
    }
    listed = subprocess.run([*command, "list", "-q"], check=True, stdout=subprocess.PIPE, text=True)
    assert listed.stdout.split() == ["c1", "c2"]
    server.call("AddProcess", id="c2", args=["echo", "hello"], stdout=str(out))
    said(out, "hello")
    # What the command line has made it also removes.
    server.call("UpdateContainer", id="c2", signal=9)
    until(lambda: server.states()["c2"]["status"] == "stopped", "c2 runs on")
    server.kill("c1")
    assert server.containers.ids() == ["c2"]


@pytest.fixture
def crun_server(api_of):
    """With a runtime that is no Go program: those raise the limit themselves, and some give it to what they execute."""
    bed.need_runtime("crun")
    yield from lend(api_of.get(runtime="crun"))


@pytest.mark.parametrize("template", ["on", "off"])
def test_a_container_has_the_limit_of_descriptors_that_the_server_was_started_with(
    crun_server, bundle, out, template
):
    crun_server.end()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, hard))
    try:
        crun_server.start(OCISHIM_TEMPLATE="off" if template == "off" else "")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(crun_server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    crun_server.create("c1", bundle(["sh", "-c", "ulimit -Sn"], process={"rlimits": None}), stdout=str(out))
    said(out, "777\n")
    crun_server.gone("c1")


BAD = [
    ("CreateContainer", {"id": "a/b"}, "INVALID_ARGUMENT", "may only have letters"),
    ("CreateContainer", {"id": ""}, "INVALID_ARGUMENT", "must not be empty"),
    ("CreateContainer", {"bundlePath": ""}, "INVALID_ARGUMENT", "bundlePath is needed"),
    ("CreateContainer", {"bundlePath": "here"}, "INVALID_ARGUMENT", "must be an absolute path"),
    ("CreateContainer", {"bundlePath": "/nowhere/b"}, "NOT_FOUND", "bundle /nowhere/b does not exist"),
    ("CreateContainer", {"stdout": "out"}, "INVALID_ARGUMENT", "stdout 'out' must be an absolute path"),
    ("CreateContainer", {"stdout": "/nowhere/out"}, "NOT_FOUND", "stdout /nowhere/out"),
    ("CreateContainer", {"stdin": "/etc/passwd"}, "INVALID_ARGUMENT", "neither a FIFO nor a terminal"),
    ("CreateContainer", {"console": "/dev/null"}, "INVALID_ARGUMENT", "console /dev/null is no terminal"),
    ("CreateContainer", {"console": "/nowhere/tty"}, "NOT_FOUND", "console /nowhere/tty"),
    ("CreateContainer", {"console": "/dev/null", "stdin": "/x"}, "INVALID_ARGUMENT", "with a console there is no stdin"),
    ("CreateContainer", {"checkpoint": "x/y"}, "INVALID_ARGUMENT", "checkpoint name 'x/y'"),
    ("CreateContainer", {"checkpoint": "x"}, "NOT_FOUND", "container new has no checkpoint x"),
    ("CreateContainer", {"id": "c1"}, "ALREADY_EXISTS", "container c1 exists already"),
    ("UpdateContainer", {"id": "c9", "signal": 9}, "NOT_FOUND", "container c9 does not exist"),
    ("UpdateContainer", {"id": "../c1", "signal": 9}, "INVALID_ARGUMENT", "may only have letters"),
    ("UpdateContainer", {"id": "c1"}, "INVALID_ARGUMENT", "nothing to update"),
    ("UpdateContainer", {"id": "c1", "status": "stopped"}, "INVALID_ARGUMENT", "'paused' and 'running' are"),
    ("UpdateContainer", {"id": "c1", "signal": 65}, "INVALID_ARGUMENT", "65 is no signal"),
    ("Signal", {"id": "c9", "pid": 1, "signal": 9}, "NOT_FOUND", "container c9"),
    ("Signal", {"id": "c1", "pid": 0, "signal": 9}, "INVALID_ARGUMENT", "0 is no pid"),
    ("Signal", {"id": "c1", "pid": 1, "signal": 0}, "INVALID_ARGUMENT", "0 is no signal"),
    ("Signal", {"id": "c1", "pid": 1, "signal": 9}, "NOT_FOUND", "no process 1 in container c1"),
    ("Signal", {"id": "c1", "pid": 4294967295, "signal": 9}, "INVALID_ARGUMENT", "is no pid"),
    ("Signal", {"id": "c1", "pid": 4194304, "signal": 9}, "NOT_FOUND", "no process 4194304"),
    ("AddProcess", {"id": "c9", "args": ["true"]}, "NOT_FOUND", "container c9"),
    ("AddProcess", {"id": "c1"}, "INVALID_ARGUMENT", "args are needed"),
    ("AddProcess", {"id": "c1", "args": ["true"], "cwd": "tmp"}, "INVALID_ARGUMENT", "cwd"),
    ("AddProcess", {"id": "c1", "args": ["true"], "env": ["x"]}, "INVALID_ARGUMENT", "NAME=value"),
    ("AddProcess", {"id": "c1", "args": ["true"], "stdout": "/nowhere/out"}, "NOT_FOUND", "/nowhere/out"),
    ("AddProcess", {"id": "c1", "args": ["true"], "console": "/dev/null"}, "INVALID_ARGUMENT", "no terminal"),
    ("CreateCheckpoint", {"id": "c9", "checkpoint": {"name": "x"}}, "NOT_FOUND", "container c9"),
    ("CreateCheckpoint", {"id": "c1"}, "INVALID_ARGUMENT", "checkpoint name must not be empty"),
    ("CreateCheckpoint", {"id": "c1", "checkpoint": {"name": "a/b"}}, "INVALID_ARGUMENT", "checkpoint name 'a/b'"),
    ("CreateCheckpoint", {"id": "c1", "checkpoint": {"name": ".."}}, "INVALID_ARGUMENT", "must not begin with '.'"),
    ("DeleteCheckpoint", {"id": "c1", "name": "x"}, "NOT_FOUND", "container c1 has no checkpoint x"),
    ("DeleteCheckpoint", {"id": "..", "name": "x"}, "INVALID_ARGUMENT", "means a directory"),
    ("DeleteCheckpoint", {"id": "c1", "name": "../.."}, "INVALID_ARGUMENT", "checkpoint name"),
    ("ListCheckpoint", {"id": "c9"}, "NOT_FOUND", "container c9"),
]  # fmt: skip


def test_bad_input_is_refused_with_the_right_code_and_changes_nothing(server, bundle):
    server.create("c1", bundle(["sleep", "1000"]))
    before = server.states()
    good = bundle(["sleep", "1000"])
    for method, request, code, text in BAD:
        fields = {"id": "new", "bundlePath": str(good), **request} if method == "CreateContainer" else request
        server.refuses(code, text, method, **fields)
    assert server.states() == before
    assert server.containers.ids() == ["c1"]


def test_of_a_container_that_cannot_be_started_nothing_is_left(any_server, bundle):
    any_server.refuses(
        "UNKNOWN",
        "no-such-program",
        "CreateContainer",
        id="c1",
        bundlePath=str(bundle(["no-such-program"])),
    )
    assert any_server.containers.ids() == []
    any_server.create("c1", bundle(["sleep", "1000"]))
    with pytest.raises(Refused):
        any_server.call("AddProcess", id="c1", args=["no-such-program"])
    assert len(any_server.states()["c1"]["processes"]) == 1


def test_an_id_is_free_as_soon_as_its_container_has_ended(server, bundle):
    folder = bundle(["true"])
    for _ in range(bed.scaled(5)):
        server.create("c1", folder)
        until(lambda: server.states().get("c1", {}).get("status") != "running", "true runs on")
