"""The process of a shim, known by pid and start time, which together name one process for ever.

Man pages: proc_pid_stat(5), field 22; pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shim.linux.pidfd import pidfd_open, pidfd_send_signal

if TYPE_CHECKING:
    from shim.linux.fd import OwnedFd

__all__ = ["ShimProcess"]

_KILL_S = 5.0


def _start_time(pid: int) -> int:
    """In clock ticks since boot; 0 when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The second field is the name, in parentheses, and may hold anything.
    return int(stat.rpartition(")")[2].split()[19])


@dataclass(frozen=True, slots=True)
class ShimProcess:
    """One shim, whether it still runs or not."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ShimProcess:
        """The process that has ``pid`` now."""
        return cls(pid, _start_time(pid))

    def _open(self) -> OwnedFd | None:
        try:
            pidfd = pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # In this order: what the descriptor names cannot change any more.
        if self.started and _start_time(self.pid) == self.started:
            return pidfd
        pidfd.close()
        return None

    def alive(self) -> bool:
        """Whether it runs."""
        return not self.wait(0)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within ``timeout_s``; if it was a child of ours it is reaped."""
        pidfd = self._open()
        if pidfd is None:
            return True
        with pidfd:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            ended = bool(poll.poll(timeout_s * 1000))
        if ended:
            with suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
        return ended

    def kill(self) -> None:
        """It has ended, by SIGKILL if need be."""
        pidfd = self._open()
        if pidfd is None:
            return
        with pidfd, suppress(ProcessLookupError):
            pidfd_send_signal(pidfd.fileno(), signal.SIGKILL)
        self.wait(_KILL_S)
