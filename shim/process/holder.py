"""A process that does nothing, in namespaces that others are to share: a pod's, where no pause image has to run.

It is started by a thread that has entered the namespaces, and outlives the shim if that is killed. As the first process of
a pid namespace it is given the orphans there; see ``pause_program``. The pod's processes see it then, and may trace it or
look through /proc/1/root: it has nothing that they could get, no file of the host and no capability.

Namespaces belong to the user namespace of whoever makes them, and only its root may do to them what a container's start
needs. So those of a pod with ids of its own are made by a process that is in its user namespace already; see
``mapped_holder``.

Man pages: namespaces(7), pid_namespaces(7), user_namespaces(7), sigaction(2) on SIGCHLD and SIG_IGN.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING

from shim import _native
from shim.errors import InvalidArgument, from_os_error
from shim.linux import namespaces
from shim.linux.empty_root import empty_root
from shim.linux.fd import OwnedFd
from shim.linux.pidfd import pidfd_open, pidfd_send_signal
from shim.linux.prctl import renounce_privileges
from shim.process.mapped_holder import start_mapped
from shim.process.pause_program import pause_program
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.process.child import Child
    from shim.process.mapped_holder import IdMaps
    from shim.process.reaper import Reaper

__all__ = ["Namespaces", "hold", "kill_holder", "start_time"]

_PROGRAM = "pause"

# The sysctls that are not the whole host's, by the namespace that has them; as runc has it.
_OF_NETWORK = ("net.",)
_OF_IPC = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")


@dataclass(frozen=True, slots=True)
class Namespaces:
    """What is held. What is not asked for is the host's."""

    network: str = ""
    """The path of a network namespace, which exists."""
    ipc: bool = False
    pids: bool = False
    uts: bool = False
    hostname: str = ""
    """In a uts namespace of their own."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    user: IdMaps | None = None
    """Ids of a user namespace of its own, which owns the others: that to which ``network`` belongs, else a new one."""

    def __post_init__(self) -> None:
        for name in self.sysctls:
            own = (name.startswith(_OF_NETWORK) and self.network) or (name.startswith(_OF_IPC) and self.ipc)
            if not own or "/" in name or ".." in name:
                raise InvalidArgument(f"sysctl {name!r} is not one of the pod's own namespaces")


async def hold(reaper: Reaper, wanted: Namespaces) -> Child:
    """A child of ours holds new namespaces, and that of the network.

    Raises:
        NotFound: the network namespace does not exist.
        Unimplemented: of this machine's kind nobody has written its program.
        ShimError: the kernel refuses.
    """
    program = pause_program()
    with reaper.window() as window:
        try:
            # In a thread of its own, whose namespaces end with it.
            pid = await in_thread(_start, wanted, program)
        except OSError as error:
            raise from_os_error(error, "the namespaces of the pod cannot be made") from error
        return window.adopt(pid)


def start_time(pid: int) -> int:
    """When the process was started, in clock ticks since the boot; 0 when there is none of that pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat[stat.rindex(")") + 2 :].split()[19])


def kill_holder(pid: int, started: int) -> None:
    """The process ``pid`` is killed, if it is still the one that was started then."""
    with suppress(ProcessLookupError), pidfd_open(pid) as fd:
        # Looked at after it is pinned: a later process of the same pid has another time.
        if start_time(pid) == started:
            pidfd_send_signal(fd.fileno(), SIGKILL)


def _start(wanted: Namespaces, program: bytes) -> int:
    if wanted.network:
        _enter(wanted.network, namespaces.CLONE_NEWNET)
    if wanted.user is not None:
        return _start_mapped(wanted, wanted.user, program)
    made = {
        namespaces.CLONE_NEWIPC: wanted.ipc,
        namespaces.CLONE_NEWUTS: wanted.uts,
        namespaces.CLONE_NEWPID: wanted.pids,
    }
    namespaces.unshare(sum(flag for flag, asked in made.items() if asked))
    _name(wanted)
    for name, value in wanted.sysctls.items():
        # /proc/sys shows each thread its own namespaces.
        Path("/proc/sys", *name.split(".")).write_text(value, encoding="ascii")
    return _pause(program)


def _start_mapped(wanted: Namespaces, maps: IdMaps, program: bytes) -> int:
    def prepare(pid: int) -> None:
        if wanted.uts:
            _enter(f"/proc/{pid}/ns/uts", namespaces.CLONE_NEWUTS)
            _name(wanted)
        # A thread that shares its directories with others cannot have mounts of its own.
        namespaces.unshare(namespaces.CLONE_FS)
        _enter(f"/proc/{pid}/ns/mnt", namespaces.CLONE_NEWNS)
        empty_root({_PROGRAM: program})

    return start_mapped(
        maps, wanted.sysctls, f"/{_PROGRAM}", prepare, ipc=wanted.ipc, uts=wanted.uts, pids=wanted.pids
    )


def _enter(path: str, kind: int) -> None:
    with OwnedFd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as fd:
        namespaces.setns(fd.fileno(), kind)


def _name(wanted: Namespaces) -> None:
    if wanted.uts and wanted.hostname:
        socket.sethostname(wanted.hostname)


def _pause(program: bytes) -> int:
    with OwnedFd(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) as null:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        empty_root({_PROGRAM: program})
        renounce_privileges()
        path = f"/{_PROGRAM}".encode()
        pid, pidfd = _native.spawn([path], (), [null.fileno()] * 3, cwd=b"/", setsid=True)
    os.close(pidfd)
    return pid
