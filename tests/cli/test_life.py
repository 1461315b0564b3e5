"""Verbs on a container that runs without us, from ``run -d`` or ``create`` to ``delete``. Real runtimes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from itertools import pairwise

import pytest

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

COUNTS = "trap 'echo bye; exit 6' TERM; echo first; while :; do sleep 0.02; done"


def _status(ocishim, container_id):
    return json.loads(ocishim("state", "--json", container_id).out)["status"]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_detached_container(ocishim, bundle, runtime):
    made = bundle(["sh", "-c", COUNTS], annotations={"org.example": "yes"})
    started = ocishim("run", "-d", "--json", "--runtime", runtime, made, "c1")
    assert json.loads(started.out)["id"] == "c1"
    state = json.loads(ocishim("state", "--json", "c1").out)
    assert state["ociVersion"]
    assert (state["status"], state["bundle"], state["runtime_kind"]) == ("running", str(made), runtime)
    assert state["annotations"]["org.example"] == "yes"
    assert state["pid"] == json.loads(started.out)["pid"]
    assert f"log_file      {ocishim.state_root}/containers/c1/output.log\n" in ocishim("state", "c1").out
    (listed,) = json.loads(ocishim("list", "--json").out)
    assert (listed["id"], listed["status"], listed["exit_status"]) == ("c1", "running", None)
    assert ocishim("exec", "c1", "echo", "hello").out == "hello\n"
    ocishim("pause", "c1")
    assert _status(ocishim, "c1") == "paused"
    ocishim("resume", "c1")
    assert _status(ocishim, "c1") == "running"
    assert ocishim("stop", "c1") == (0, "", "")
    assert ocishim("stop", "c1") == (0, "", "")
    assert ocishim("wait", "c1").out == "6\n"
    ended = json.loads(ocishim("wait", "--json", "c1").out)
    assert (ended["id"], ended["exit_status"]) == ("c1", 6)
    assert ocishim("logs", "c1").out == ocishim("logs", "-f", "c1").out == "first\nbye\n"
    assert ocishim("delete", "c1") == (0, "", "")


def test_an_exit_status_of_0_is_one(ocishim, bundle):
    ocishim("run", "-d", bundle(["true"]), "c1")
    ocishim("wait", "c1")
    assert re.search(r"^exit_status +0$", ocishim("state", "c1").out, re.MULTILINE)
    ocishim("delete", "c1")


def test_created_first_started_later(ocishim, bundle):
    made = bundle(["sh", "-c", "echo out; echo err >&2; exit 2"])
    assert ocishim("create", made, "c1") == (0, "c1\n", "")
    assert _status(ocishim, "c1") == "created"
    assert ocishim("start", "-a", "c1") == (2, "out\nerr\n", "")
    assert ocishim("delete", "c1").code == 0


def test_stop_kills_what_does_not_end(ocishim, bundle):
    made = bundle(["sleep", "1000"])
    for name in ("c1", "c2"):
        assert ocishim("run", "-d", made, name).code == 0
    assert ocishim("create", made, "c3").code == 0
    ocishim("pause", "c2")
    assert ocishim("stop", "--timeout", "0.1", "c1", "c2", "c3") == (0, "", "")
    assert ocishim("wait", "c1", "c2", "c3").out == "137\n137\n137\n"
    assert ocishim("delete", "c1", "c2", "c3").code == 0


def test_stats_once_and_watched(program, ocishim, bundle):
    assert ocishim("run", "-d", bundle(["sh", "-c", "while :; do :; done"]), "c1").code == 0
    table = ocishim("stats", "c1").out.splitlines()
    assert table[0].split() == ["ID", "CPU", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN"]
    assert table[1].split()[0] == "c1"
    command = [*program, "stats", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        rows = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    for before, after in pairwise(rows):
        assert after["cpu_ns"] > before["cpu_ns"]
        assert after["cpu_percent"] > 0
        assert after["pids"] >= 1
    ocishim("delete", "--force", "c1")


def test_limits_change_while_it_runs(ocishim, bundle):
    assert ocishim("run", "-d", "--memory", "64m", bundle(["sleep", "1000"]), "c1").code == 0

    def limit():
        return json.loads(ocishim("stats", "--json", "c1").out)["memory_limit"]

    assert limit() == 64 << 20
    assert ocishim("update", "--memory", "96m", "c1") == (0, "", "")
    assert limit() == 96 << 20
    resources = ocishim.state_root / "resources.json"
    resources.write_text('{"memory": {"limit": 83886080}, "cpu": {"shares": 512}}')
    assert ocishim("update", "--resources", resources, "c1").code == 0
    assert limit() == 80 << 20
    resources.write_text('{"memory": {"limit": "much"}}')
    assert "memory.limit" in ocishim("update", "--resources", resources, "c1").err
    resources.unlink()
    ocishim("delete", "--force", "c1")


@pytest.mark.cgroup2
def test_limits_change_while_it_runs_on_cgroup_v2(ocishim, bundle):
    test_limits_change_while_it_runs(ocishim, bundle)


def test_logs_are_followed_to_the_end(program, ocishim, bundle):
    made = bundle(["sh", "-c", COUNTS])
    assert ocishim("run", "-d", made, "c1").code == 0
    with subprocess.Popen([*program, "logs", "-f", "c1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "first\n"
        ocishim("kill", "c1")
        assert process.stdout.read() == "bye\n"
    assert process.returncode == 0
    ocishim("delete", "c1")


def test_attached_to_a_log_what_comes_is_shown_and_stdin_passed_on(program, ocishim, bundle):
    made = bundle(["sh", "-c", 'while read line; do echo "got $line"; done; echo end'])
    assert ocishim("run", "-d", "-i", made, "c1").code == 0
    # The first one leaves its stdin open for the next.
    with subprocess.Popen([*program, "attach", "c1"], stdin=-1, stdout=-1, text=True) as process:
        process.stdin.write("a\n")
        process.stdin.close()
        assert process.stdout.readline() == "got a\n"
        process.kill()
    result = subprocess.run(
        [*program, "attach", "--end-stdin", "c1"], input="b\n", capture_output=True, text=True, check=True
    )
    assert result.stdout == "got b\nend\n"
    assert ocishim("logs", "c1").out == "got a\ngot b\nend\n"
    ocishim("delete", "c1")


def test_what_went_to_the_foreground_is_in_no_log(ocishim, bundle):
    ocishim("run", bundle(["true"]), "c1")
    refused = ocishim("logs", "c1")
    assert refused.code == 1
    assert "was started in the foreground" in refused.err
    assert "ocishim attach c1" in refused.err
    ocishim("delete", "c1")


def test_ids_are_made_of_the_bundles_name(ocishim, bundle):
    made = ocishim("create", bundle(["true"])).out.strip()
    assert re.fullmatch("bundle0-[0-9a-f]{6}", made)
    assert ocishim("list", "-q").out.split() == [made]
    assert ocishim("delete", made).code == 0


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_features_of_a_runtime(ocishim, name):
    found = ocishim("features", "--runtime", name, "--json")
    if found.code:
        # crun has them since 1.8.6
        assert "features" in found.err
        return
    assert json.loads(found.out)["ociVersionMax"]
    assert "linux.cgroup.v1" in ocishim("features", "--runtime", name).out


def test_the_doctor_finds_a_runtime_that_works(ocishim):
    os.chmod(ocishim.state_root, 0o700)
    result = ocishim("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.out)}
    assert checks["runc"]["verdict"] == "ok"
    assert checks["runc"]["found"].endswith("ran a container")
    assert (result.code, result.err) == (0, "")
