"""`enter`, `guest` and `apart` pass on what they are given and what comes back, and leave nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from support import bed
from support import leaks as leak

HERE = Path(__file__).resolve().parent

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def newer_root() -> str:
    root = subprocess.run(
        [HERE / "build-root", "--where"], stdout=subprocess.PIPE, check=True, text=True
    ).stdout.strip()
    bed.need(Path(root).is_dir(), "the newer root is not built: make bed")
    return root


@pytest.fixture(params=["enter", "guest"])
def inside(request, newer_root, tmp_path):
    """Runs a shell script inside, its arguments untouched, in a folder below /tmp."""

    def run(script, *args, **env):
        command = [HERE / request.param, newer_root, "bash", "-c", script, "_", *args]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_arguments_environment_folder_and_exit_status_pass_through(inside, tmp_path):
    script = 'printf "%s|" "$@" "$VALUE" "$PWD" "$(cat marker)"; touch made; exit 7'
    (tmp_path / "marker").write_text("of the host")
    result = inside(script, "two  words", "it's", "", "$HOME", VALUE="a\nb")
    assert result.stdout == f"two  words|it's||$HOME|a\nb|{tmp_path}|of the host|"
    assert (result.stderr, result.returncode) == ("", 7)
    assert (tmp_path / "made").exists()


def test_long_output_arrives_whole(inside):
    assert inside("seq 200000").stdout == "".join(f"{n}\n" for n in range(1, 200001))


def test_the_root_is_read_only_and_run_and_tmp_are_fresh(inside):
    result = inside(
        "! touch /usr/x && ls -A /run /tmp && mkfifo /run/fifo /tmp/fifo && cat /etc/debian_version"
    )
    assert "Read-only" in result.stdout + result.stderr
    assert result.returncode == 0


def test_mounts_of_the_inside_do_not_show_outside(inside, newer_root):
    assert inside("mount -t tmpfs none /mnt").returncode == 0
    assert newer_root not in Path("/proc/self/mountinfo").read_text()


def test_the_guest_has_cgroup_v2(newer_root, tmp_path):
    script = "cat /sys/fs/cgroup/cgroup.controllers"
    result = subprocess.run(
        [HERE / "guest", newer_root, "sh", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, check=True
    )
    assert {b"cpu", b"io", b"memory", b"pids"} <= set(result.stdout.split())


def test_a_guest_that_hangs_is_killed_whole(newer_root, tmp_path, leaks):
    command = [HERE / "guest", newer_root, "sleep", "1000"]
    env = {**os.environ, "GUEST_TIMEOUT": "3"}
    result = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (124, "guest: killed after 3 s\n")


def test_a_guest_whose_command_shuts_it_down_has_failed(newer_root, tmp_path):
    command = [HERE / "guest", newer_root, "sh", "-c", "echo o > /proc/sysrq-trigger; sleep 60"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (125, "guest: ended before the command did\n")


class Apart:
    """A shell script that runs apart and waits for a line of its stdin."""

    def __init__(self, script, tmp_path):
        command = [HERE / "apart", "bash", "-c", f"{script}\necho .\nread -r\nexit 7"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=tmp_path)
        self.lines = []
        while (line := self.process.stdout.readline()) != ".\n":
            assert line, "it has ended"
            self.lines.append(line.rstrip("\n"))

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.kill()
        self.process.communicate()


def test_what_is_apart_sees_nobody_and_nobody_sees_it(leaks, tmp_path):
    make_group = 'mkdir "$(find /sys/fs/cgroup -name cgroup.procs -printf "%h\\n" | head -n 1)/made"'
    look = f"find /sys/fs/cgroup -mindepth {1 if bed.has_cgroup2() else 2} -type d; ps -e -o args=; ip -brief link"
    with Apart(f"{look}; {make_group}; readlink /proc/self/ns/net", tmp_path) as apart:
        *lines, network = [line for line in apart.lines if line != "/sys/fs/cgroup/first"]
        assert [line.split()[0] for line in lines] == ["/bin/bash", "bash", "ps", "lo"]
        assert left_groups(apart)
        seen = [str(item) for item in leak.snapshot()]
        assert not [item for item in seen if item == f"network namespace {network}" or leak.APART in item]
        apart.process.communicate("\n")
        assert apart.process.returncode == 7
    assert not left_groups(apart)


def left_groups(apart):
    return list(bed.CGROUP.glob(f"**/{leak.APART}{apart.process.pid}"))


@pytest.mark.parametrize("number", [0, signal.SIGTERM])
def test_what_is_frozen_apart_ends_too(number, leaks, tmp_path):
    freeze = (
        "cd /sys/fs/cgroup/freezer && mkdir x && echo $! > x/cgroup.procs && echo FROZEN > x/freezer.state"
    )
    with Apart(f"sleep 1000 &\n{freeze}", tmp_path) as apart:
        apart.process.send_signal(number)
        apart.process.communicate("\n", timeout=60)
    assert not left_groups(apart)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_apart_ends_with_the_script(number, leaks, tmp_path):
    with Apart("setsid sleep 1000 &", tmp_path) as apart:
        apart.process.send_signal(number)
        assert apart.process.wait() == -number
    bed.until(lambda: not leak.processes(), "a process stays")
    for group in left_groups(apart):
        assert number == signal.SIGKILL
        bed.until(lambda group=group: removed(group), f"{group} is busy")


def removed(group):
    with suppress(OSError):
        group.rmdir()
    return not group.exists()
