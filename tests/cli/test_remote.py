"""``ocishim --host``: the verbs that a daemon has calls for, and one line for all others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import bed
from support.api_daemon import daemon
from support.certificates import Authority

from shim.cli import app
from shim.cli.remote import MODULES

__all__ = ["daemon"]  # a fixture

LOCAL = sorted(set(app._VERBS) - set(MODULES))


@pytest.mark.parametrize("verb", LOCAL)
def test_what_is_for_this_host_only(verb, capfd):
    assert app.run(["--host", "unix:///nowhere", verb]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        f"ocishim: {verb} is for this host only; of --host unix:///nowhere there are run, "
    )


@pytest.mark.parametrize("verb", sorted(MODULES))
def test_what_a_daemon_has(verb, capfd):
    assert app.run(["--host", "unix:///nowhere", verb, "--help"]) == 0
    assert capfd.readouterr().out.startswith(f"Usage: ocishim {verb} ")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--host", "nonsense", "list"], 1, "host 'nonsense' is neither unix:///path nor tcp://host:port"),
        (["--host", "", "list"], 1, "host '' is neither"),
        (["--host", "tcp://127.0.0.1:1", "list"], 1, "a CA, a certificate and a key are needed"),
        (["--host", "unix:///nowhere", "list"], 1, "unix:///nowhere cannot be reached: No such file"),
        (["--tls-ca", "/no/such", "list"], 2, "/no/such"),
        (["--host", "unix:///nowhere", "--tls-ca", __file__, "list"], 1, "go together"),
        (["--host", "unix:///nowhere", "run", "/b"], 2, "use -d"),
        (["--host", "unix:///nowhere", "run", "-d", "b"], 2, "must be an absolute path"),
        (["--host", "unix:///nowhere", "exec", "c1", "true"], 2, "use -d"),
        (["--host", "unix:///nowhere", "exec", "-d", "-u", "me", "c1", "true"], 2, "not a numeric uid"),
        (["--host", "unix:///nowhere", "kill", "c1", "NOTHING"], 2, "no signal"),
        (["events", "--after", "-1"], 2, "--after"),
    ],
)  # fmt: skip
def test_bad_input(words, code, said, capfd, state_root):
    assert app.run(["--state-root", str(state_root), *words]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("ocishim: ")
    assert said in line


@pytest.mark.parametrize("words", [["--host", "unix:///nowhere", "list"], ["events"]])
def test_without_grpc(words, state_root):
    program = (
        "import sys; sys.modules['grpc'] = None; from shim.cli.app import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "--state-root", state_root, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "ocishim: calling a daemon needs grpc: pip install 'ocishim[daemon]'\n",
    )


def test_no_daemon_here(capfd, state_root):
    for words in (["events"], ["checkpoint", "list", "c1"]):
        assert app.run(["--state-root", str(state_root), *words]) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert line.endswith("start one with: ocishim daemon")


@pytest.fixture
def remote(daemon, capfd):
    """What the verbs print for that daemon; ``remote.host`` is how they are told of it."""

    def ocishim(*words: object) -> str:
        code = app.run([*ocishim.host, *map(str, words)])
        out, err = capfd.readouterr()
        assert (code, err) == (0, "")
        return out

    ocishim.host = ["--host", f"unix://{daemon.grpc_socket}"]
    return ocishim


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_a_life(remote, bundle, capfd):
    folder = bundle(["sh", "-c", "while :; do :; done"], process={"cwd": "/tmp"})
    assert remote("run", "-d", folder, "c1") == "c1\n"
    made = json.loads(remote("run", "-d", "--json", folder))
    assert made["id"].startswith("bundle0-")
    assert remote("list", "-q").split() == sorted(["c1", made["id"]])
    assert remote("list").splitlines()[0].split() == ["ID", "PID", "STATUS", "PROCESSES", "BUNDLE"]
    (listed,) = [one for one in json.loads(remote("list", "--json")) if one["id"] == made["id"]]
    assert (listed["processes"][0]["pid"], listed["bundlePath"]) == (made["pid"], str(folder))
    exec_pid = int(remote("exec", "-d", "-u", "5:6", "-w", "/", "-e", "A=b", "c1", "sleep", "1000"))
    state = json.loads(remote("state", "--json", "c1"))
    init, added = state["processes"]
    assert (state["status"], init["cwd"], added["pid"], added["cwd"]) == ("running", "/tmp", exec_pid, "/")
    assert (added["user"]["uid"], added["user"]["gid"], "A=b" in added["env"]) == (5, 6, True)
    shown = remote("state", "c1").splitlines()
    assert shown[0].split() == ["id", "c1"]
    assert shown[-1].split() == [str(exec_pid), "5:6", "/", "sleep", "1000"]
    assert remote("pause", "c1", made["id"]) == ""
    assert json.loads(remote("state", "--json", "c1"))["status"] == "paused"
    assert remote("resume", "c1", made["id"]) == ""
    table = remote("stats", "c1").splitlines()
    assert table[0].split() == ["ID", "CPU", "MEMORY", "READ", "WRITTEN", "RECEIVED", "SENT"]
    row = json.loads(remote("stats", "--json", "c1"))
    assert (row["id"], row["cpu_percent"] > 1, row["memory_bytes"] > 0) == ("c1", True, True)
    remote("kill", "--pid", exec_pid, "c1", "KILL")
    remote("kill", "c1", "KILL")
    remote("kill", made["id"], "9")
    # Two lives, and the exec's.
    lines = remote("events", "--after", "0", "-n", "10").splitlines()
    assert [line.split()[0] for line in lines] == [str(n) for n in range(1, 11)]
    assert lines[0].split() == ["1", "create", "c1", str(init["pid"])]
    assert f"exit c1 {exec_pid} 137" in "\n".join(lines)
    event = json.loads(remote("events", "--after", "1", "-n", "1", "--json"))
    assert (event["number"], event["type"], event["process"]["cwd"]) == (2, "start-container", "/tmp")
    bed.until(lambda: remote("list", "-q") == "", "they are not removed")
    code = app.run([*remote.host, "state", "c1"])
    assert (code, "container c1 does not exist there" in capfd.readouterr().err) == (1, True)
    code = app.run([*remote.host, "pause", "c1", "c2"])
    assert (code, len(capfd.readouterr().err.splitlines())) == (1, 2)


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_the_end_of_a_life(remote, bundle, daemon, capfd):
    """``wait``, ``stop`` and ``delete``, of which the API has none."""
    short = bundle(["sh", "-c", "exit 3"])
    polite = bundle(["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.02; done"])
    deaf = bundle(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    remote("run", "-d", short, "c1")
    assert remote("wait", "c1") == "3\n"
    bed.until(lambda: remote("list", "-q") == "", "it is not removed")
    assert remote("wait", "c1") == "3\n", "it is gone, and its events are kept"
    for name, folder in (("c2", polite), ("c3", deaf), ("c4", polite)):
        remote("run", "-d", folder, name)
    for name in ("c2", "c4"):
        bed.until(lambda name=name: minds_sigterm(remote, name), f"{name} has not set its trap")
    remote("pause", "c4")
    with subprocess.Popen(
        [sys.executable, "-m", "shim", *remote.host, "wait", "--json", "c3", "c2", "c1"],
        stdout=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert remote("stop", "--timeout", "0.3", "c3") == ""
        assert remote("stop", "c2", "c4") == ""
        told = [json.loads(line) for line in waiting.stdout]
    assert waiting.returncode == 0
    assert [tuple(one.values()) for one in told] == [("c3", 137), ("c2", 5), ("c1", 3)]
    assert remote("wait", "c4") == "5\n"
    remote("run", "-d", deaf, "c5")
    assert app.run([*remote.host, "delete", "c5"]) == 1
    assert "c5 is running" in capfd.readouterr().err
    assert remote("delete", "--force", "c5") == ""
    assert remote("list", "-q") == ""
    for verb in ("wait", "stop", "delete"):
        assert app.run([*remote.host, verb, "nobody"]) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert "container nobody does not exist there" in line


def minds_sigterm(remote, name: str) -> bool:
    """Whether its init has a handler: without one the kernel gives the first process of a pid namespace no such signal."""
    pid = json.loads(remote("state", "--json", name))["processes"][0]["pid"]
    (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_what_was_made_there_is_removed_there(remote, bundle, daemon, capfd, monkeypatch):
    monkeypatch.setattr("shim.cli.remote.delete._GONE_S", 0.2)
    local = ["--config", str(daemon.config)]
    assert app.run([*local, "run", "-d", str(bundle(["true"])), "c1"]) == 0
    assert app.run([*local, "wait", "c1"]) == 0
    capfd.readouterr()
    assert app.run([*remote.host, "delete", "c1"]) == 1
    assert "on its host: ocishim delete c1" in capfd.readouterr().err
    assert app.run([*local, "delete", "c1"]) == 0


@pytest.mark.root
@pytest.mark.criu
@pytest.mark.usefixtures("leaks")
def test_checkpoints(remote, bundle, capfd):
    folder = bundle(["sleep", "1000"])
    remote("run", "-d", folder, "c1")
    assert remote("checkpoint", "create", "--exit", "--tcp", "c1", "one") == ""
    bed.until(lambda: remote("list", "-q") == "", "it goes on")
    assert [line.split() for line in remote("checkpoint", "list", "c1").splitlines()] == [
        ["NAME", "EXIT", "TCP", "UNIX", "SOCKETS", "SHELL"],
        ["one", "yes", "yes", "-", "-"],
    ]
    (about,) = json.loads(remote("checkpoint", "list", "--json", "c1"))
    assert about == {"name": "one", "exit": True, "tcp": True, "unixSockets": False, "shell": False}
    remote("run", "-d", "--checkpoint", "one", folder, "c1")
    (process,) = json.loads(remote("state", "--json", "c1"))["processes"]
    assert process["args"] == ["sleep", "1000"]
    assert remote("checkpoint", "delete", "c1", "one") == ""
    assert json.loads(remote("checkpoint", "list", "--json", "c1")) == []
    for words in (["delete", "c1", "one"], ["create", "c1", "a/b"]):
        assert app.run([*remote.host, "checkpoint", *words]) == 1
        assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_events_of_the_daemon_of_the_state_directory(daemon, bundle):
    """Until ctrl-c; the place of the socket is the configuration's."""
    program = [sys.executable, "-m", "shim", "--config", str(daemon.config)]
    with subprocess.Popen(
        [*program, "events", "--after", "0"], stdout=subprocess.PIPE, text=True
    ) as watching:
        subprocess.run([*program, "run", "--rm", bundle(["true"])], check=True, stdin=subprocess.DEVNULL)
        kinds = [watching.stdout.readline().split()[1] for _ in range(4)]
        watching.send_signal(signal.SIGINT)
    assert kinds == ["create", "start-container", "exit", "delete"]
    assert watching.returncode == 0


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_over_tcp(daemon, capfd, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    files = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": authority.path}
    assert daemon.stop() == 0
    assert "STOPPING" in daemon.told()
    daemon.configure('grpc_tcp = "127.0.0.1:0"', *(f'{name} = "{path}"' for name, path in files.items()))
    daemon.start()
    host = ["--host", f"tcp://127.0.0.1:{daemon.port}", "--tls-ca", str(authority.path)]
    own, own_key = authority.issue("client")
    assert app.run([*host, "--tls-cert", str(own), "--tls-key", str(own_key), "list", "--json"]) == 0
    assert capfd.readouterr() == ("[]\n", "")
    (tmp_path / "others").mkdir()
    other, other_key = Authority(tmp_path / "others").issue("client")
    assert app.run([*host, "--tls-cert", str(other), "--tls-key", str(other_key), "list"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert f"tcp://127.0.0.1:{daemon.port} cannot be reached" in line


def test_the_host_of_the_environment(monkeypatch, capfd):
    monkeypatch.setitem(os.environ, "OCISHIM_HOST", "unix:///elsewhere")
    assert app.run(["list"]) == 1
    assert "unix:///elsewhere" in capfd.readouterr().err
