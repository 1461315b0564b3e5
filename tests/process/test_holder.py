"""A process that holds namespaces, and how it is known again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import bed

from shim.errors import InvalidArgument, NotFound, Unavailable
from shim.linux.fd import OwnedFd
from shim.linux.namespaces import owning_user_namespace
from shim.linux.user_namespace import IdRange
from shim.process import mapped_holder
from shim.process.holder import Namespaces, hold, kill_holder, start_time
from shim.process.mapped_holder import IdMaps


def namespace(pid: int | str, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


def owner(pid: int, name: str) -> str:
    """The user namespace that a namespace of ``pid`` belongs to, as ``namespace`` shows it."""
    with (
        OwnedFd(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)) as fd,
        owning_user_namespace(fd.fileno()) as user,
    ):
        return os.readlink(f"/proc/self/fd/{user.fileno()}")


def content(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def seen_in(pid: int, script: str) -> str:
    """What a shell prints in the namespaces of ``pid``."""
    enter = ["nsenter", f"--target={pid}", "--uts", "--ipc", "--"]
    return subprocess.check_output([*enter, "sh", "-c", script], text=True)


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process in a user namespace, and in a network namespace that belongs to that."""
    program = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 100"]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.root
async def test_it_holds_what_is_asked_for(reaper):
    child = await hold(reaper, Namespaces(uts=True, hostname="held", pids=True))
    held = {name: os.readlink(f"/proc/{child.pid}/ns/{name}") for name in ("uts", "pid", "ipc", "net")}
    ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in held}
    assert {name for name in held if held[name] != ours[name]} == {"uts", "pid"}
    assert os.readlink(f"/proc/{child.pid}/cwd") == "/"
    child.send_signal(signal.SIGKILL)
    assert (await child.wait()).status == 137


def assert_harmless(pid: int) -> None:
    """The pod's processes may have the process: it is called pause, and has no file and no right of the host's."""
    assert content(pid, "comm") == "pause\n"
    assert os.listdir(f"/proc/{pid}/root") == os.listdir(f"/proc/{pid}/root/..") == ["pause"]
    assert os.readlink(f"/proc/{pid}/exe") == "/pause"
    assert len(content(pid, "mountinfo").splitlines()) == 1
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    status = dict(line.split(":\t", 1) for line in content(pid, "status").splitlines())
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.root
async def test_it_gives_nothing_of_the_host_away(reaper):
    child = await hold(reaper, Namespaces(uts=True, pids=True))
    assert_harmless(child.pid)
    child.send_signal(signal.SIGKILL)
    await child.wait()


@pytest.mark.root
async def test_a_network_that_is_not_there(reaper):
    with pytest.raises(NotFound, match="no-such"):
        await hold(reaper, Namespaces(network="/run/netns/no-such"))


MAPS = IdMaps((IdRange(0, 70000, 1000),), (IdRange(0, 80000, 1000),))


@pytest.mark.root
@pytest.mark.parametrize("pids", [False, True])
async def test_it_has_ids_of_its_own(reaper, pids):
    wanted = Namespaces(
        ipc=True, uts=True, hostname="mapped", pids=pids, sysctls={"kernel.shm_rmid_forced": "1"}, user=MAPS
    )
    child = await hold(reaper, wanted)
    for name in ("uid", "gid"):
        (line,) = content(child.pid, f"{name}_map").splitlines()
        assert line.split() == ["0", "70000" if name == "uid" else "80000", "1000"]
    made = {"user", "ipc", "uts", *(["pid"] if pids else [])}
    for name in ("user", "ipc", "uts", "pid", "net"):
        assert (namespace(child.pid, name) != namespace("self", name)) == (name in made), name
        if name in made - {"user"}:
            assert owner(child.pid, name) == namespace(child.pid, "user"), name
    assert seen_in(child.pid, "hostname; cat /proc/sys/kernel/shm_rmid_forced") == "mapped\n1\n"
    bed.until(lambda: content(child.pid, "comm") == "pause\n", "it does not run its program")
    assert_harmless(child.pid)
    assert len(os.listdir(f"/proc/{child.pid}/fd")) == 3
    child.send_signal(signal.SIGKILL)
    assert (await child.wait()).status == 137


@pytest.mark.root
async def test_a_network_brings_its_user_namespace(reaper, stranger):
    child = await hold(reaper, Namespaces(network=f"/proc/{stranger}/ns/net", ipc=True, user=MAPS))
    for name in ("user", "net"):
        assert namespace(child.pid, name) == namespace(stranger, name)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    os.kill(stranger, signal.SIGKILL)


@pytest.mark.root
async def test_ids_without_a_root(reaper):
    maps = IdMaps((IdRange(1, 70000, 1000),), MAPS.gids)
    with pytest.raises(InvalidArgument, match="root"):
        await hold(reaper, Namespaces(ipc=True, user=maps))


@pytest.mark.root
async def test_programs_that_fail_say_why(reaper, monkeypatch):
    monkeypatch.setattr(mapped_holder, "_SETTINGS", "echo no such luck >&2; exit 3")
    with pytest.raises(Unavailable, match="no such luck"):
        await hold(reaper, Namespaces(pids=True, user=MAPS))


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
