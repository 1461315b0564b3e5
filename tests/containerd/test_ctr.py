"""Containers of real containerd, driven by its own client, run by our shim."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pexpect
import pytest
from support import bed, templates
from support.containerd import IMAGE, RUNTIME, Containerd, series
from support.task_events import watching

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("settled")]


def test_output_and_exit_code_come_back(daemon: Containerd) -> None:
    done = daemon.run("c1", "sh", "-c", "echo out; echo err >&2; exit 7", options=("--rm",), check=False)
    assert (done.stdout, done.returncode) == ("out\n", 7)
    assert "err" in done.stderr


def test_events_come_in_order(daemon: Containerd) -> None:
    with watching(daemon) as events:
        daemon.run("c2", "sleep", "100", options=("-d",))
        daemon.ctr("task", "exec", "--exec-id", "e1", "c2", "true")
        daemon.ctr("task", "pause", "c2")
        daemon.ctr("task", "resume", "c2")
        daemon.ctr("task", "kill", "-s", "SIGKILL", "c2")
        bed.until(lambda: "c2" not in daemon.running(), "c2 runs on")
        daemon.ctr("task", "rm", "c2", check=False)
        daemon.ctr("container", "rm", "c2")
        found = events.until("delete", "c2")
    topics = [topic for topic, _ in found]
    assert topics[:2] == ["create", "start"]
    assert topics[2:5] == ["exec-added", "exec-started", "exit"]
    assert topics[5:7] == ["paused", "resumed"]
    assert topics[7:9] == ["exit", "delete"]
    assert found[7][1]["exit_status"] == 137
    assert found[7][1]["id"] == "c2"


def test_exec_has_output_exit_code_and_a_place_in_the_list(daemon: Containerd) -> None:
    daemon.run("c3", "sleep", "100", options=("-d",))
    done = daemon.ctr("task", "exec", "--exec-id", "e", "c3", "sh", "-c", "echo inside; exit 5", check=False)
    assert (done.stdout, done.returncode) == ("inside\n", 5)
    assert len(daemon.ctr("task", "ps", "c3").stdout.splitlines()) == 2
    assert "pids.current" in daemon.ctr("task", "metrics", "c3").stdout
    daemon.ctr("task", "rm", "-f", "c3", check=False)
    daemon.ctr("container", "rm", "c3")


def test_terminal(daemon: Containerd) -> None:
    command = daemon.command("run", "--rm", "-t", "--runtime", RUNTIME, IMAGE, "c4", "sh")
    child = pexpect.spawn(command[0], command[1:], timeout=30, dimensions=(33, 77), encoding="utf-8")
    child.expect("# ")
    child.sendline("stty size; exit 4")
    child.expect("33 77")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 4


def test_a_user_namespace(daemon: Containerd) -> None:
    maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"]
    if series() == "2":  # id-mapped mounts; before, it takes the option and does not do it
        maps.append("--remap-labels")
    script = "stat -c %u:%g /bin/busybox; echo x > /new; cat /proc/self/uid_map"
    done = daemon.run("c9", "sh", "-c", script, options=("--rm", *maps), check=False)
    assert done.stdout.split() == ["0:0", "0", "100000", "65536"], done.stderr


def test_a_pod_shares_one_shim(daemon: Containerd) -> None:
    pod = ("--label", "x=y", "--annotation", "io.kubernetes.cri.sandbox-id=pod1")
    if "--annotation" not in daemon.ctr("run", "--help").stdout:
        pytest.fail("this ctr knows no annotations")
    for name in ("p1", "p2", "p3"):
        daemon.run(name, "sleep", "100", options=("-d", *pod))
    assert len(daemon.shims()) == 1
    for name in ("p2", "p1", "p3"):
        daemon.ctr("task", "rm", "-f", name, check=False)
        daemon.ctr("container", "rm", name)


@pytest.mark.parametrize("runtime", ["crun", "runsc"])
def test_other_runtimes_by_configuration(daemon: Containerd, runtime: str, tmp_path: Path) -> None:
    bed.need_runtime(runtime)
    config = tmp_path / "runtime.toml"
    config.write_text(f'runtime = "{runtime}"\n')
    before = daemon.shim_config.read_text()
    daemon.shim_config.write_text(f'{before}runtime = "{runtime}"\n')
    try:
        done = daemon.run("c5", "sh", "-c", "echo under; exit 3", options=("--rm",), check=False)
    finally:
        daemon.shim_config.write_text(before)
    assert (done.stdout, done.returncode) == ("under\n", 3), done.stderr


def test_a_killed_shim_leaves_nothing(daemon: Containerd) -> None:
    daemon.run("c6", "sleep", "100", options=("-d",))
    (shim,) = daemon.shims()
    os.kill(shim, signal.SIGKILL)
    bed.until(
        lambda: "c6" not in daemon.ctr("task", "list", "-q").stdout.split(), "containerd has not noticed"
    )
    daemon.ctr("container", "rm", "c6")


def test_an_image_that_cannot_run_leaves_nothing(daemon: Containerd) -> None:
    done = daemon.run("c8", "/no/such/program", check=False)
    assert done.returncode == 1
    assert "no such file or directory" in done.stderr
    daemon.ctr("container", "rm", "c8")


@pytest.mark.timeout(max(180, bed.scaled(180)))
def test_many_containers_at_once(daemon: Containerd) -> None:
    """Twenty at a time, however many."""
    names = [f"many{number}" for number in range(bed.scaled(20))]
    with ThreadPoolExecutor(max_workers=20) as clients:
        done = list(clients.map(partial(say_name, daemon), names))
    assert [(client.stdout, client.returncode) for client in done] == [(f"{name}\n", 2) for name in names]


def say_name(daemon: Containerd, name: str) -> subprocess.CompletedProcess[str]:
    return daemon.run(name, "sh", "-c", f"echo {name}; exit 2", options=("--rm",), check=False)


def test_the_program_says_what_it_is(daemon: Containerd) -> None:
    program = templates.installed() / templates.LAUNCHER
    env = {**os.environ, "PYTHONPATH": str(bed.CHECKOUT)}
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=True, env=env)
    assert "Version" in done.stdout
    info = subprocess.run([program, "-info"], input=b"", capture_output=True, check=True, env=env)
    assert b"io.containerd.ocishim.v2" in info.stdout
