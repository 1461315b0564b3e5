"""Containers that run: output, exit codes, stdin, signals, and what is left afterwards. Real runtimes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.root

SLEEP = ["sleep", "1000"]
# A shell is init here, and init gets only signals that it has a handler for.
REPORTS = (
    "for s in INT TERM HUP QUIT USR1; do trap \"echo $s\" $s; done; trap 'echo USR2; exit 9' USR2; "
    "echo ready; while :; do sleep 0.02; done"
)


def _expect(stream, line):
    """Read lines of a process until ``line`` comes; the process ends the test if it ends first."""
    for got in stream:
        if got.strip() == line:
            return
    pytest.fail(f"{line!r} never came")


@pytest.mark.usefixtures("leaks")
def test_output_and_code_are_the_containers(ocishim, bundle, runtime):
    made = bundle(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert ocishim("run", "--rm", "--runtime", runtime, made) == (3, "out\n", "err\n")
    assert ocishim("list", "-q") == (0, "", "")


@pytest.mark.usefixtures("leaks")
@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "sleep 1000 & kill -9 $!; wait $! 2>/dev/null"], 137, ""),
        (["no-such-program"], 127, "no-such-program"),
        (["/etc"], 126, "/etc"),
    ],
)
def test_exit_codes_are_those_of_a_shell(ocishim, bundle, args, code, said):
    result = ocishim("run", "--rm", bundle(args))
    assert result.code == code
    assert said in result.err
    assert result.err.count("\n") == (1 if said else 0)
    assert ocishim("list", "-q").out == ""


@pytest.mark.usefixtures("leaks")
def test_without_rm_it_stays_until_it_is_deleted(ocishim, bundle):
    made = bundle(["sh", "-c", "exit 4"])
    assert ocishim("run", made, "c1").code == 4
    assert "c1" in ocishim("list").out
    assert "stopped (4)" in ocishim("list").out
    taken = ocishim("run", made, "c1")
    assert taken.code == 125
    assert taken.err.startswith("ocishim: container c1 exists already; ")
    assert ocishim("wait", "c1").out == "4\n"
    assert ocishim("delete", "c1") == (0, "", "")


@pytest.mark.usefixtures("leaks")
def test_stdin_is_passed_on_byte_for_byte_with_i_and_empty_without(program, bundle):
    data = os.urandom(8 << 20)
    made = bundle(["cat"])
    result = subprocess.run(
        [*program, "run", "-i", "--rm", made], input=data, capture_output=True, check=True
    )
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
    result = subprocess.run([*program, "run", "--rm", made], input=data, capture_output=True, check=True)
    assert result.stdout == b""


@pytest.mark.usefixtures("leaks")
def test_signals_are_forwarded(program, bundle):
    made = bundle(["sh", "-c", REPORTS])
    with subprocess.Popen([*program, "run", "--rm", made], stdout=subprocess.PIPE, text=True) as process:
        _expect(process.stdout, "ready")
        for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2"):
            process.send_signal(signal.Signals[f"SIG{name}"])
            _expect(process.stdout, name)
    assert process.returncode == 9


@pytest.mark.usefixtures("leaks")
def test_a_killed_client_leaves_a_container_that_can_be_attached_to(program, bundle, ocishim):
    made = bundle(["sh", "-c", REPORTS])
    with subprocess.Popen([*program, "run", made, "c1"], stdout=subprocess.PIPE, text=True) as process:
        _expect(process.stdout, "ready")
        process.kill()
    ocishim("kill", "c1", "USR1")
    with subprocess.Popen([*program, "attach", "c1"], stdout=subprocess.PIPE, text=True) as process:
        _expect(process.stdout, "USR1")
        refused = ocishim("attach", "c1")
        assert refused.code == 125
        assert "another ocishim is attached" in refused.err
        process.send_signal(signal.SIGUSR2)
        _expect(process.stdout, "USR2")
    assert process.returncode == 9
    assert ocishim("delete", "c1").code == 0


@pytest.mark.usefixtures("leaks")
def test_a_background_process_that_holds_the_output_ends_with_init(ocishim, bundle):
    began = time.monotonic()
    assert ocishim("run", "--rm", bundle(["sh", "-c", "sleep 600 & echo done"])) == (0, "done\n", "")
    assert time.monotonic() - began < 60


@pytest.mark.usefixtures("leaks")
def test_when_nobody_reads_the_container_goes_on(program, bundle, ocishim):
    pipeline = (
        " ".join(map(str, [*program, "run", bundle(["yes"]), "c1"])) + " | head -1; echo ${PIPESTATUS[0]}"
    )
    result = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, check=True)
    assert result.stdout == "y\n141\n"
    assert result.stderr.startswith("ocishim: nobody reads the output any more; container c1 goes on")
    assert ocishim("delete", "--force", "c1") == (0, "", "")


@pytest.mark.usefixtures("leaks")
def test_and_is_stopped_with_rm(program, bundle, ocishim):
    made = bundle(["sh", "-c", "trap 'exit 0' TERM; while :; do echo y; done"])
    pipeline = " ".join(map(str, [*program, "run", "--rm", made])) + " | head -1; echo ${PIPESTATUS[0]}"
    result = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("y\n141\n", "")
    assert ocishim("list", "-q").out == ""


@pytest.mark.usefixtures("leaks")
def test_detached_with_rm_the_shim_removes_it(program, bundle, ocishim):
    """In a process of its own: the shim must not be a child of this one, which would have to reap it."""
    made = bundle(["sh", "-c", "sleep 1; exit 5"])  # long enough for the wait to come before the end
    started = subprocess.run(
        [*program, "run", "-d", "--rm", made, "c1"], capture_output=True, text=True, check=True
    )
    assert started.stdout == "c1\n"
    assert ocishim("wait", "c1").out == "5\n"
    deadline = time.monotonic() + 20
    while ocishim("list", "-q").out:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("leaks")
def test_a_log_file_in_the_foreground_is_shown_and_kept(ocishim, bundle, tmp_path):
    log = tmp_path / "log"
    made = bundle(["sh", "-c", "echo out; echo err >&2; head -c 300000 /dev/zero"])
    result = ocishim("run", "--rm", "--log-file", log, made)
    assert result.code == 0
    assert result.out == "out\nerr\n" + "\0" * 300_000
    assert log.read_text() == result.out


@pytest.mark.usefixtures("leaks")
def test_ctrl_c_before_the_container_runs_leaves_nothing(program, bundle, ocishim, tmp_path):
    slow = tmp_path / "runc"
    began = tmp_path / "began"
    os.mkfifo(began)
    # Only the first of the runtime's calls is slow; what is asked of it afterwards is not.
    slow.write_text(f'#!/bin/sh\ncase "$*" in *" create "*) echo > {began}; sleep 1;; esac\nexec runc "$@"\n')
    slow.chmod(0o755)
    command = [*program, "run", "--runtime", str(slow), bundle(SLEEP)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        began.read_text()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert process.returncode == 130
    assert ocishim("list", "-q").out == ""


def _runs_out_of_memory(ocishim, bundle):
    hog = "x=$(head -c 4194304 /dev/zero | tr '\\0' .); while :; do y=$y$x; done"
    result = ocishim("run", "--rm", "--memory", "32m", bundle(["sh", "-c", hog]), "hog")
    assert result.code == 137
    assert result.err == "ocishim: container hog was killed: out of memory (limit 32.0 MiB)\n"


@pytest.mark.usefixtures("leaks")
def test_running_out_of_memory_is_told(ocishim, bundle):
    _runs_out_of_memory(ocishim, bundle)


@pytest.mark.cgroup2
@pytest.mark.usefixtures("leaks")
def test_running_out_of_memory_is_told_on_cgroup_v2(ocishim, bundle):
    _runs_out_of_memory(ocishim, bundle)
