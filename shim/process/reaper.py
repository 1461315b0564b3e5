"""The one owner of wait(2) in a shim: starts children, adopts orphans, and reaps everything.

A container's init and its execs are grandchildren: the OCI runtime that forked them exits, and the kernel gives them
to the nearest subreaper, which is this process. They can have ended before we know their pid. Three rules make sure that
no exit is ever lost, taken twice, or given to the wrong process:

1. Only the sweep reaps. It runs in the loop's thread, on SIGCHLD, and reaps all that is there, since signals coalesce.
   Waiting on one pidfd per child instead was rejected: the sweep for orphans could reap a child before its pidfd was
   looked at, so there would be two owners; and it costs an epoll registration for each process.
2. A pid is in ``_children`` before the sweep can see it: spawn and registration are one step in the loop's thread.
3. An exit that belongs to nobody is kept by every adoption window that is open, because one of them may be about to
   learn that pid; with no window open it was an orphan and is only counted. Inside a window a pid that was reaped could in
   theory be used again by another grandchild before ``adopt`` is called; ``adopt`` prefers the exit that was seen.

Man pages: waitid(2), prctl(2) PR_SET_CHILD_SUBREAPER, pidfd_open(2).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shim import _native
from shim.errors import NotFound
from shim.linux.fd import OwnedFd
from shim.linux.pidfd import pidfd_open
from shim.linux.prctl import set_child_subreaper
from shim.process.child import Child
from shim.process.exit import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["AdoptionWindow", "Reaper"]

_log = logging.getLogger(__name__)


class AdoptionWindow:
    """A stretch of time in which a process that nobody knows yet may become ours."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self.unclaimed: dict[int, Exit] = {}

    def adopt(self, pid: int) -> Child:
        """The process ``pid``, which the kernel gave or will give to this subreaper.

        Raises:
            NotFound: there is no such process, and none with this pid ended within the window.
        """
        return self._reaper.adopt(pid, self.unclaimed)


class Reaper:
    """Owns every child of this process. All methods are for the loop's thread."""

    def __init__(self) -> None:
        self.orphans = 0
        self._children: dict[int, Child] = {}
        self._windows: set[AdoptionWindow] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def children(self) -> int:
        """How many processes are registered and have not ended."""
        return len(self._children)

    def start(self) -> None:
        """Become subreaper and reap from now on, also what ended before."""
        set_child_subreaper()
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self._sweep)
        self._sweep()

    def stop(self) -> None:
        """Stop reaping; children stay as they are."""
        if self._loop is not None:
            self._loop.remove_signal_handler(signal.SIGCHLD)
            self._loop = None

    def spawn(
        self,
        argv: Sequence[str],
        *,
        fds: Sequence[int],
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pdeathsig: int = 0,
        setsid: bool = False,
        cgroup_procs_fd: int = -1,
    ) -> Child:
        """Start ``argv``; ``fds[i]`` is its descriptor i, and it has no others.

        Raises:
            NotFound: ``argv[0]`` is no path and not on PATH.
            OSError: it could not be started; ``filename`` names what failed.
        """
        environment = os.environ if env is None else env
        pid, pidfd = _native.spawn(
            [os.fsencode(which(argv[0])), *map(os.fsencode, argv[1:])],
            [os.fsencode(f"{key}={value}") for key, value in environment.items()],
            fds,
            cwd=None if cwd is None else os.fsencode(cwd),
            cgroup_procs_fd=cgroup_procs_fd,
            pdeathsig=pdeathsig,
            setsid=setsid,
        )
        child = Child(pid, OwnedFd(pidfd))
        self._children[pid] = child
        return child

    @contextmanager
    def window(self) -> Iterator[AdoptionWindow]:
        """Keep the exits of unknown processes while the body runs an OCI runtime and learns the pid it made."""
        window = AdoptionWindow(self)
        self._windows.add(window)
        try:
            yield window
        finally:
            self._windows.discard(window)
            self.orphans += len(window.unclaimed)

    def adopt(self, pid: int, unclaimed: dict[int, Exit]) -> Child:
        """See ``AdoptionWindow.adopt``."""
        if (ended := unclaimed.pop(pid, None)) is not None:
            for window in self._windows:
                window.unclaimed.pop(pid, None)
            return Child(pid, None, ended)
        if (known := self._children.get(pid)) is not None:
            return known
        try:
            pidfd = pidfd_open(pid)
        except ProcessLookupError:
            raise NotFound(f"process {pid} has gone before it could be watched") from None
        child = Child(pid, pidfd)
        self._children[pid] = child
        return child

    def _sweep(self) -> None:
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, Exit.from_wait_status(wait_status))

    def _ended(self, pid: int, ended: Exit) -> None:
        child = self._children.pop(pid, None)
        if child is not None:
            child.ended(ended)
        elif self._windows:
            for window in self._windows:
                window.unclaimed[pid] = ended
        else:
            self.orphans += 1
            _log.debug("reaped orphan %d: %s", pid, ended)


def which(name: str) -> str:
    """``name`` itself when it holds a slash, else its absolute path on PATH.

    Raises:
        NotFound: it is not there.
    """
    if "/" in name:
        return name
    if (found := shutil.which(name)) is None:
        raise NotFound(f"program {name!r} is not on PATH={os.environ.get('PATH', '')}")
    return found
