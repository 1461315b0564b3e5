"""The one owner of wait(2) in a shim: starts children, adopts orphans, and reaps everything.

A container's init and its execs are grandchildren: the OCI runtime that forked them exits, and the kernel gives them
to the nearest subreaper, which is this process. They can have ended before we know their pid. Three rules make sure that
no exit is ever lost, taken twice, or given to the wrong process:

1. Only the sweep reaps. It runs in the loop's thread, on SIGCHLD, and reaps all that is there, since signals coalesce.
   Waiting on one pidfd per child instead was rejected: the sweep for orphans could reap a child before its pidfd was
   looked at, so there would be two owners; and it costs an epoll registration for each process.
2. A pid is in ``_children`` before the sweep can see it: spawn and registration are one step in the loop's thread.
3. An exit that belongs to nobody is kept by every adoption window that is open, because one of them may be about to
   learn that pid; with no window open it was an orphan and is only counted. A window may be open for as long as a
   runtime takes, long enough for a pid to come round again, so a child that is alive wins over an exit that was seen.

Man pages: waitid(2), prctl(2) PR_SET_CHILD_SUBREAPER, pidfd_open(2).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
from collections.abc import Mapping
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
    from collections.abc import Iterator, Sequence

__all__ = ["AdoptionWindow", "Reaper", "encoded"]

_log = logging.getLogger(__name__)


class AdoptionWindow:
    """A stretch of time in which a process that nobody knows yet may become ours."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self.unclaimed: dict[int, Exit] = {}

    def adopt(self, pid: int) -> Child:
        """The process ``pid``, which became our child when the runtime that started it ended.

        Raises:
            NotFound: it is no child of ours, and none with this pid ended within the window. A process whose exit
                would never come is refused here rather than waited for, and signalled, for ever.
        """
        return self._reaper.adopt(pid, self.unclaimed)


class Reaper:
    """Owns every child of this process. All methods are for the loop's thread."""

    def __init__(self, open_files: int = -1) -> None:
        """``open_files`` is the soft limit of descriptors of all that is started, -1 for our own."""
        self.orphans = 0
        self._open_files = open_files
        self._children: dict[int, Child] = {}
        self._windows: set[AdoptionWindow] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def children(self) -> int:
        """How many processes are registered and have not ended."""
        return len(self._children)

    def start(self) -> None:
        """Become subreaper and reap from now on, also what ended before. For the main thread, as signals are."""
        loop = asyncio.get_running_loop()
        set_child_subreaper()
        loop.add_signal_handler(signal.SIGCHLD, self._sweep)
        self._loop = loop
        # In the loop's next round, as each handler that is added after ours turns the warnings on again.
        loop.call_soon(_expect_many_signals)
        self._sweep()

    def stop(self) -> None:
        """Stop reaping, and be no subreaper any more: nobody would reap the orphans. Children stay as they are."""
        if self._loop is not None:
            self._loop.remove_signal_handler(signal.SIGCHLD)
            self._loop = None
            set_child_subreaper(enabled=False)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        fds: Sequence[int],
        env: Mapping[str, str] | Sequence[bytes] | None = None,
        cwd: str | None = None,
        pdeathsig: int = 0,
        setsid: bool = False,
        cgroup_procs_fd: int = -1,
    ) -> Child:
        """Start ``argv``; ``fds[i]`` is its descriptor i, and it has no others. ``env`` may be ``encoded`` already.

        Raises:
            NotFound: ``argv[0]`` is no path and not on PATH.
            OSError: it could not be started; ``filename`` names what failed.
        """
        environment = os.environ if env is None else env
        if isinstance(environment, Mapping):
            environment = encoded(environment)
        pid, pidfd = _native.spawn(
            [os.fsencode(which(argv[0])), *map(os.fsencode, argv[1:])],
            environment,
            fds,
            cwd=None if cwd is None else os.fsencode(cwd),
            cgroup_procs_fd=cgroup_procs_fd,
            pdeathsig=pdeathsig,
            setsid=setsid,
            open_files=self._open_files,
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
            # What another window holds, too, may be adopted there yet; the last one counts it.
            held = {pid for other in self._windows for pid in other.unclaimed}
            self.orphans += len(window.unclaimed.keys() - held)

    def adopt(self, pid: int, unclaimed: dict[int, Exit]) -> Child:
        """See ``AdoptionWindow.adopt``."""
        known = self._children.get(pid)
        if known is not None and pid not in unclaimed:
            return known
        if known is None and _is_child(pid):
            # A zombie until the sweep, which cannot run in between, so the pid is still that process.
            child = self._children[pid] = Child(pid, _pidfd_of(pid))
            return child
        if (ended := unclaimed.get(pid)) is None:
            raise NotFound(
                f"process {pid} is not a child of this shim, or was gone before it could be watched"
            )
        for window in self._windows:
            window.unclaimed.pop(pid, None)
        return Child(pid, None, ended)

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


def encoded(environment: Mapping[str, str]) -> list[bytes]:
    """``environment`` as execve(2) takes it."""
    return [os.fsencode(f"{key}={value}") for key, value in environment.items()]


def which(name: str) -> str:
    """``name`` itself when it holds a slash, else its absolute path on PATH.

    Raises:
        NotFound: it is not there.
    """
    if "/" in name:
        return name
    if (found := shutil.which(name)) is None:
        raise NotFound(f"program {name!r} is not on PATH={os.environ.get('PATH', '')}")
    # PATH may hold relative names, and exec looks only after it has changed to the child's directory.
    return os.path.abspath(found)


def _is_child(pid: int) -> bool:
    """Whether ``pid`` is a child of ours, alive or not reaped yet."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (OSError, OverflowError):  # ECHILD; EINVAL and the overflow for what can be no pid
        return False
    return True


def _pidfd_of(pid: int) -> OwnedFd | None:
    # Out of descriptors is no reason to lose sight of a process that is there.
    try:
        return pidfd_open(pid)
    except OSError as error:
        if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise
        return None


def _expect_many_signals() -> None:
    """Let signals coalesce without a word.

    Python writes a byte for each signal into the loop's wake-up socket, which holds some 280. When more children than
    that end while the loop is busy the rest find it full: harmless, because one byte makes the sweep reap them all, but
    asyncio asks for a traceback on stderr for each, and stderr can be a pipe that nobody empties.
    """
    # Blocked meanwhile, so that no signal finds the socket missing.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    fd = signal.set_wakeup_fd(-1)
    if fd >= 0:
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
