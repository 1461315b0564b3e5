"""What a process has from whoever started it, read of another one and taken on: so a fork is as if the caller had started it.

What a process cannot change for itself, or not back again, must be the same already: namespaces, root directory,
credentials, capabilities, filters.

Source: namespaces(7), proc_pid_status(5), credentials(7), execve(2) for what a program inherits.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from shim.cgroup.hierarchy import detect, parse_membership
from shim.errors import FailedPrecondition
from shim.linux.fd import OwnedFd

__all__ = ["WAITING", "Surroundings", "is_alone", "join_cgroups", "leave_cgroups"]

WAITING = "ocishim-fork"
"""The name of a process that waits for a caller (at most 15 bytes)."""

# Files of /proc/<pid>: all namespaces, and the root directory.
_UNCHANGEABLE = (
    "ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid", "ns/pid_for_children", "ns/time", "ns/time_for_children",
    "ns/user", "ns/uts", "root",
)  # fmt: skip
# RLIM_NLIMITS of asm-generic/resource.h, which no kernel has changed in twenty years.
_LIMITS = range(16)
# Without those that libc keeps for itself: nobody may set them, and children of glibc's posix_spawn(3) ignore them.
_SIGNALS = sorted(signal.valid_signals())
_CREDENTIALS = (
    b"Uid", b"Gid", b"Groups", b"NoNewPrivs", b"Seccomp", b"Seccomp_filters",
    b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of one process, at one moment."""

    unchangeable: tuple[object, ...]
    parent: int
    umask: int
    blocked: int
    """Signals, as a set of bits."""
    ignored: int
    nice: int
    cpus: frozenset[int]
    limits: tuple[tuple[int, int], ...]
    cgroups: bytes
    oom_score: bytes

    @classmethod
    def of(cls, pid: int) -> Self:
        """Those of ``pid``.

        Raises:
            OSError: there is no such process, or it is not ours to look at.
        """
        with OwnedFd(os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as process:
            return cls._from(pid, process.fileno())

    @classmethod
    def _from(cls, pid: int, process: int) -> Self:
        status = _fields(_read("status", process))
        return cls(
            unchangeable=(
                [_identity(name, process) for name in _UNCHANGEABLE],
                [status.get(name) for name in _CREDENTIALS],
                _label(process),
                os.sched_getscheduler(pid),
            ),
            parent=int(status[b"PPid"]),
            umask=int(status[b"Umask"], 8),
            blocked=int(status[b"SigBlk"], 16),
            ignored=int(status[b"SigIgn"], 16),
            nice=os.getpriority(os.PRIO_PROCESS, pid),
            cpus=frozenset(os.sched_getaffinity(pid)),
            limits=tuple(resource.prlimit(pid, kind) for kind in _LIMITS),
            cgroups=_read("cgroup", process),
            oom_score=_read("oom_score_adj", process),
        )

    def adopt(self, own: Surroundings) -> None:
        """This process, whose surroundings are ``own``, has these instead.

        Raises:
            FailedPrecondition: it cannot.
            OSError: it may not.
        """
        if self.unchangeable != own.unchangeable:
            raise FailedPrecondition("the caller lives in other namespaces, or has other rights")
        os.umask(self.umask)
        if self.cgroups != own.cgroups:
            join_cgroups(self.cgroups)
        if self.oom_score != own.oom_score:
            with open("/proc/self/oom_score_adj", "wb") as file:
                file.write(self.oom_score)
        for kind, limit in enumerate(self.limits):
            if limit != own.limits[kind]:
                resource.setrlimit(kind, limit)
        if self.nice != own.nice:
            os.setpriority(os.PRIO_PROCESS, 0, self.nice)
        if self.cpus != own.cpus:
            os.sched_setaffinity(0, self.cpus)
        for number in _numbers(self.ignored & ~own.ignored):
            signal.signal(number, signal.SIG_IGN)
        if self.blocked != own.blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, _numbers(self.blocked))


def leave_cgroups() -> None:
    """This process is in the root of every hierarchy, as far as it may: it holds no group, and none holds it."""
    found = detect()
    for mount in {*found.legacy.values(), *([found.unified] if found.unified else [])}:
        with suppress(OSError):
            _enter(mount.mount_point)


def join_cgroups(wanted: bytes) -> set[str]:
    """This process is where ``wanted``, a process' /proc/<pid>/cgroup, says, in every hierarchy.

    Returns the directories of the groups in which it was not before.

    Raises:
        OSError: it may not, or there is no such group any more. It is in the root of every hierarchy then.
        ShimError: a group cannot be seen from here.
    """
    there, here = (parse_membership(os.fsdecode(text)) for text in (wanted, _read("/proc/self/cgroup")))
    found = detect()
    directories = {
        found.legacy[name].directory(path)
        for name, path in there.legacy.items()
        if path != here.legacy.get(name) and name in found.legacy
    }
    if there.unified is not None and there.unified != here.unified and found.unified:
        directories.add(found.unified.directory(there.unified))
    try:
        for directory in directories:
            _enter(directory)
    except OSError:
        leave_cgroups()
        raise
    return directories


def is_alone(directories: set[str]) -> bool:
    """Whether one of these groups has no process but this one and others named ``WAITING``, which keep it from being removed.

    The forks of two templates would otherwise stay for each other's sake.
    """
    me = b"%d" % os.getpid()
    try:
        return any(
            all(pid == me or _waits(pid) for pid in _read(f"{directory}/cgroup.procs").split())
            for directory in directories
        )
    except OSError:
        return True


def _waits(pid: bytes) -> bool:
    try:
        return _read(f"/proc/{pid.decode()}/comm") == f"{WAITING}\n".encode()
    except OSError:
        return True


def _enter(directory: str) -> None:
    with open(f"{directory}/cgroup.procs", "wb") as file:
        file.write(b"0")


def _numbers(bits: int) -> list[int]:
    return [number for number in _SIGNALS if bits >> (number - 1) & 1]


def _fields(status: bytes) -> dict[bytes, bytes]:
    return {name: value for name, _, value in (line.partition(b":\t") for line in status.split(b"\n"))}


def _identity(path: str, directory: int) -> tuple[int, int]:
    found = os.stat(path, dir_fd=directory)
    return found.st_dev, found.st_ino


def _label(process: int) -> bytes:
    """The profile of AppArmor or context of SELinux, where there is such a thing: what confines a caller confines its shims."""
    try:
        return _read("attr/current", process)
    except OSError:
        return b""


def _read(path: str, directory: int | None = None) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)
