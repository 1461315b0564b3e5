from __future__ import annotations

import subprocess

from shim.containers.shim_process import ShimProcess


def test_one_that_runs_is_known_and_can_be_killed():
    child = subprocess.Popen(["sleep", "1000"])
    process = ShimProcess.of(child.pid)
    assert process.started > 0
    assert process.alive()
    assert not process.wait(0)
    process.kill()
    assert not process.alive()
    child.returncode = -9  # reaped already, which Popen cannot know


def test_another_process_with_its_pid_is_not_it():
    child = subprocess.Popen(["sleep", "1000"])
    stranger = ShimProcess(child.pid, ShimProcess.of(child.pid).started - 1)
    assert not stranger.alive()
    stranger.kill()
    assert child.poll() is None
    child.kill()
    child.wait()


def test_one_that_is_gone_is_gone():
    child = subprocess.Popen(["true"])
    process = ShimProcess.of(child.pid)
    child.wait()
    assert process.wait(10)
    process.kill()
    assert ShimProcess.of(child.pid).started == 0
