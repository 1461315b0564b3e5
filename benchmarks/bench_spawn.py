"""Starting a program and waiting for it: the native spawn beside what the standard library has.

`make bench`. Each ends with a pidfd. Only the native one closes every other fd, resets every signal, and can set
cgroup, parent-death signal and working directory.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from shim._native import spawn

PROGRAM = "/bin/true"
ENVIRONMENT = {"PATH": "/usr/bin:/bin"} | {f"VARIABLE_{number}": "some value" for number in range(20)}


def native():
    argv, env = [os.fsencode(PROGRAM)], [f"{name}={value}".encode() for name, value in ENVIRONMENT.items()]
    _, pidfd = spawn(argv, env, [0, 1, 2], pdeathsig=signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def posix_spawn():
    pid = os.posix_spawn(PROGRAM, [PROGRAM], ENVIRONMENT, setsigmask=[], setsigdef=[signal.SIGPIPE])
    pidfd = os.pidfd_open(pid)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def popen():
    with subprocess.Popen([PROGRAM], env=ENVIRONMENT, stdin=0, stdout=1, stderr=2) as process:
        pidfd = os.pidfd_open(process.pid)
        process.wait()
    os.close(pidfd)


@pytest.mark.benchmark(group="start /bin/true with three fds and wait for it")
@pytest.mark.parametrize("start", [native, posix_spawn, popen])
def test_start_and_wait(benchmark, start):
    benchmark.pedantic(start, rounds=500, warmup_rounds=20)


@pytest.mark.benchmark(group="the part of a start that holds the caller up")
@pytest.mark.parametrize("start", ["native", "posix_spawn", "popen"])
def test_start_alone(benchmark, start):
    """The shim's loop stands still for this long; waiting is the pidfd's business."""
    env = [f"{name}={value}".encode() for name, value in ENVIRONMENT.items()]
    starts = {
        "native": lambda: spawn([os.fsencode(PROGRAM)], env, [0, 1, 2])[1],
        "posix_spawn": lambda: os.pidfd_open(os.posix_spawn(PROGRAM, [PROGRAM], ENVIRONMENT)),
        "popen": lambda: subprocess.Popen([PROGRAM], env=ENVIRONMENT),
    }
    started = []
    benchmark.pedantic(lambda: started.append(starts[start]()), rounds=200)
    for one in started:
        if isinstance(one, subprocess.Popen):
            one.wait()
        else:
            os.waitid(os.P_PIDFD, one, os.WEXITED)
            os.close(one)
