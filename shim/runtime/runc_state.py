"""The directory in which runc keeps a container, and two things that are done by its files instead of by running runc.

runc is a large program that takes 4 ms and more to do next to nothing here:

* **Start.** The init waits in open(2) of ``exec.fifo`` for a reader, writes a byte, closes it and becomes the container's
  program. ``runc start`` is that reader; then it removes the FIFO, which is how runc tells created from running.
* **Delete** of what has ended. Its cgroups are removed, and this directory.

Only what is exactly as expected is done here. For anything else (hooks that would have to run, a frozen group, an init that
has ended before its start, a group that is not empty, files that we do not know) the answer is False and runc is run: it
has the words for what is wrong, and may know better. Each step may have been done before, so runc can finish what was
begun here, and whoever comes after a crash can do it again.

Source: runc, libcontainer/container_linux.go, state_linux.go and standard_init_linux.go, from 1.1 to 1.5; fifo(7).
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.linux.fd import OwnedFd
from shim.linux.pidfd import pidfd_open
from shim.process.holder import start_time

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RuncState"]

_CGROUP = "/sys/fs/cgroup/"
_STATE, _FIFO = "state.json", "exec.fifo"
_KNOWN = frozenset({_STATE, _FIFO})


@dataclass(frozen=True, slots=True)
class RuncState:
    """One container as ``state.json`` in ``directory`` has it."""

    directory: Path
    pid: int
    started: int
    """When the init was started, in clock ticks since the boot: with ``pid``, which process it is."""
    groups: Mapping[str, str]
    """Its cgroups, by controller; the v2 group has the empty name."""
    hooks: frozenset[str]
    resctrl: bool
    """Whether it has groups in resctrl(4), Intel's RDT."""

    @classmethod
    def load(cls, root: str, container_id: str) -> RuncState | None:
        """The container as it is written down; None when that is missing or not understood."""
        directory = Path(root, container_id)
        try:
            state = json.loads((directory / _STATE).read_bytes())
            return cls(
                directory=directory,
                pid=int(state["init_process_pid"]),
                started=int(state["init_process_start"]),
                groups=_paths(state.get("cgroup_paths")),
                hooks=_hooks(state["config"].get("Hooks")),
                resctrl=bool(state.get("intel_rdt_path") or state.get("intel_rdt_mon_path")),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    async def start(self) -> bool:
        """The init has become the container's program, or has tried to; False: let runc start it."""
        if "poststart" in self.hooks or self._frozen():
            return False
        with ExitStack() as opened:
            try:
                init = opened.enter_context(pidfd_open(self.pid))
                fifo = opened.enter_context(_open_fifo(self.directory / _FIFO))
            except OSError:
                return False
            # Looked at after it is pinned: a later process of the same pid has another time.
            if start_time(self.pid) != self.started or not await _let_go(fifo, init):
                return False
        with suppress(FileNotFoundError):
            (self.directory / _FIFO).unlink()
        return True

    def delete(self) -> bool:
        """Nothing is left of a container whose init has ended; False: let runc delete it."""
        if "poststop" in self.hooks or self.resctrl or self._alive() or self._frozen():
            return False
        try:
            files = os.listdir(self.directory)
            if not _KNOWN.issuperset(files):
                return False
            for group in self.groups.values():
                with suppress(FileNotFoundError):
                    os.rmdir(group)
            for name in files:
                (self.directory / name).unlink()
            self.directory.rmdir()
        except OSError:
            return False
        return True

    def _alive(self) -> bool:
        return start_time(self.pid) == self.started

    def _frozen(self) -> bool:
        """Whether its processes are stopped, or that cannot be told."""
        unified, freezer = self.groups.get(""), self.groups.get("freezer")
        if freezer is not None:
            return _content(f"{freezer}/freezer.state") not in {b"THAWED\n", b""}
        return unified is not None and _content(f"{unified}/cgroup.freeze") not in {b"0\n", b""}


def _paths(groups: Any) -> dict[str, str]:
    paths = dict(groups or {})
    if not all(path.startswith(_CGROUP) and os.path.normpath(path) == path for path in paths.values()):
        raise ValueError(f"{paths} are no cgroups")
    return paths


def _hooks(hooks: Any) -> frozenset[str]:
    return frozenset(name for name, commands in (hooks or {}).items() if commands)


def _content(path: str) -> bytes | None:
    """All that is in a file, nothing where there is none, None where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        return b"" if error.errno in {errno.ENOENT, errno.ENODEV} else None


def _open_fifo(path: Path) -> OwnedFd:
    # With O_NONBLOCK the open succeeds before there is a writer, and lets one go that waits.
    fifo = OwnedFd(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    if not stat.S_ISFIFO(os.fstat(fifo.fileno()).st_mode):
        fifo.close()
        raise FileExistsError(errno.EEXIST, "no FIFO", str(path))
    return fifo


async def _let_go(fifo: OwnedFd, init: OwnedFd) -> bool:
    """Whether the init has written its byte and closed the FIFO; False: it has ended without."""
    loop = asyncio.get_running_loop()
    changed: asyncio.Queue[OwnedFd] = asyncio.Queue()
    for fd in (fifo, init):
        loop.add_reader(fd.fileno(), changed.put_nowait, fd)
    written = False
    try:
        while True:
            # Until there was a writer, read(2) finds an end of the FIFO, and epoll(7) does not.
            ended = await changed.get() is init
            with suppress(BlockingIOError):
                while os.read(fifo.fileno(), 16):
                    written = True
                return written
            if ended:
                return written
    finally:
        for fd in (fifo, init):
            loop.remove_reader(fd.fileno())
