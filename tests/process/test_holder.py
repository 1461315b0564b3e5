"""A process that holds namespaces, and how it is known again."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from shim.errors import InvalidArgument, NotFound
from shim.process.holder import Namespaces, hold, kill_holder, start_time


@pytest.mark.root
async def test_it_holds_what_is_asked_for(reaper):
    child = await hold(reaper, Namespaces(uts=True, hostname="held", pids=True))
    held = {name: os.readlink(f"/proc/{child.pid}/ns/{name}") for name in ("uts", "pid", "ipc", "net")}
    ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in held}
    assert {name for name in held if held[name] != ours[name]} == {"uts", "pid"}
    assert os.readlink(f"/proc/{child.pid}/cwd") == "/"
    child.send_signal(signal.SIGKILL)
    assert (await child.wait()).status == 137


@pytest.mark.root
async def test_a_network_that_is_not_there(reaper):
    with pytest.raises(NotFound, match="no-such"):
        await hold(reaper, Namespaces(network="/run/netns/no-such"))


def test_only_the_pods_own_sysctls_can_be_set():
    Namespaces(ipc=True, network="/n", sysctls={"net.core.somaxconn": "1", "kernel.shmmax": "1"})
    for sysctl in ("kernel.panic", "net.core.somaxconn", "kernel.msgmax", "net..core", "net.a/b"):
        with pytest.raises(InvalidArgument, match="sysctl"):
            Namespaces(sysctls={sysctl: "1"})


def test_a_pid_alone_kills_nobody():
    with subprocess.Popen(["sleep", "100"]) as child:
        started = start_time(child.pid)
        kill_holder(child.pid, started + 1)
        assert child.poll() is None
        kill_holder(child.pid, started)
        assert child.wait() == -signal.SIGKILL
    assert start_time(child.pid) == 0
    kill_holder(child.pid, started)
