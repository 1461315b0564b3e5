"""Processes beside init. Real runtimes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time

import pytest
from support import bed

import shim.cli.verbs.exec as verb

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


@pytest.fixture
def box(ocishim, bundle):
    """The id of a container that sleeps."""
    made = bundle(["sleep", "1000"], process={"env": ["FROM_INIT=1", "PATH=/bin", *_mark()]})
    assert ocishim("run", "-d", made, "box").code == 0
    return "box"


def _mark():
    return [f"OCISHIM_TEST_SESSION={os.environ['OCISHIM_TEST_SESSION']}"]


def _nothing_is_left_of_execs(ocishim):
    execs = ocishim.state_root / "containers" / "box" / "exec"
    assert list(execs.iterdir()) == []
    assert json.loads(ocishim("state", "--json", "box").out)["execs"] == []


def test_a_command_has_its_own_streams_environment_directory_and_user(ocishim, box, monkeypatch):
    monkeypatch.setenv("FROM_HERE", "2")
    script = 'echo "$FROM_INIT $FROM_HERE $GIVEN $PWD $(id -u):$(id -g)"; echo err >&2; exit 7'
    options = ("-e", "FROM_HERE", "-e", "GIVEN=3", "-w", "/tmp", "-u", "1000:50")
    assert ocishim("exec", *options, box, "sh", "-c", script) == (7, "1 2 3 /tmp 1000:50\n", "err\n")
    _nothing_is_left_of_execs(ocishim)


def test_options_after_the_command_are_the_commands(ocishim, box):
    assert ocishim("exec", box, "echo", "-e", "--json", "-t").out == "--json -t\n"


def test_stdin_and_output_are_byte_exact(program, ocishim, box):
    data = os.urandom(4 << 20)
    result = subprocess.run([*program, "exec", "-i", box, "cat"], input=data, capture_output=True, check=True)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
    assert (
        subprocess.run([*program, "exec", box, "cat"], input=data, capture_output=True, check=True).stdout
        == b""
    )
    _nothing_is_left_of_execs(ocishim)


def test_a_background_process_that_holds_the_output_does_not_hang_it(ocishim, box):
    """It outlives the exec: Delete lets go of the output after the shim's drain timeout."""
    assert ocishim("exec", box, "sh", "-c", "sleep 600 & echo done") == (0, "done\n", "")
    _nothing_is_left_of_execs(ocishim)


def test_signals_are_forwarded_and_the_code_says_which(program, ocishim, box):
    command = [*program, "exec", box, "sh", "-c", "echo ready; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    _nothing_is_left_of_execs(ocishim)


def test_a_reader_that_goes_away_ends_it_as_it_would_end_a_local_process(program, ocishim, box):
    pipeline = " ".join([*program, "exec", box, "yes"]) + " | head -1; echo ${PIPESTATUS[0]}"
    result = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("y\n141\n", "")
    _nothing_is_left_of_execs(ocishim)


def test_a_full_disk_on_our_side_ends_it(program, ocishim, box):
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [*program, "exec", box, "yes"], stdout=full, stderr=-1, text=True, check=False
        )
    assert result.returncode == 125
    assert result.stderr == "ocishim: stdout cannot be written: No space left on device\n"
    _nothing_is_left_of_execs(ocishim)


def test_detached_ones_have_an_id_to_wait_for_and_to_signal(ocishim, box):
    exec_id = ocishim("exec", "-d", box, "sleep", "1000").out.strip()
    expected = {("", ("sleep", "1000")), (exec_id, ("sleep", "1000"))}

    def listed():
        found = json.loads(ocishim("ps", "--json", box).out)
        return {(entry["exec"], tuple(entry["command"])) for entry in found}

    bed.until(lambda: listed() == expected, "the command has not been executed")
    assert exec_id in ocishim("ps", box).out
    assert ocishim("kill", "--exec", exec_id, box, "USR1").code == 0
    assert ocishim("wait", "--exec", exec_id, box).out == "138\n"
    refused = ocishim("attach", "--exec", exec_id, box)
    assert refused.code == 125
    assert "no streams to attach to" in refused.err


def test_only_the_last_detached_ones_that_ended_are_remembered(ocishim, box, monkeypatch):
    monkeypatch.setattr(verb, "_REMEMBERED", 2)
    ids = []
    for _ in range(4):
        ids.append(ocishim("exec", "-d", box, "true").out.strip())
        assert ocishim("wait", "--exec", ids[-1], box).out == "0\n"
    known = [about["id"] for about in json.loads(ocishim("state", "--json", box).out)["execs"]]
    assert known == ids[1:]


def test_every_process_gets_a_signal_with_all(ocishim, box):
    exec_id = ocishim("exec", "-d", box, "sleep", "1000").out.strip()
    assert ocishim("kill", "--all", box, "KILL").code == 0
    assert ocishim("wait", box).out == "137\n"
    assert ocishim("wait", "--exec", exec_id, box).out == "137\n"
    deadline = time.monotonic() + 10
    while ocishim("ps", "--json", box).out != "[]\n":
        assert time.monotonic() < deadline
