"""How and when a process ended."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

__all__ = ["Exit"]


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one process.

    ``status`` is 0..255, 128 + n for a process that signal n killed, as shells and containerd count it.
    """

    status: int
    exited_at_ns: int
    signal: int | None = None

    @classmethod
    def from_wait_status(cls, wait_status: int) -> Exit:
        """What wait(2) reported, seen now."""
        at = time.time_ns()
        if os.WIFSIGNALED(wait_status):
            number = os.WTERMSIG(wait_status)
            return cls(128 + number, at, number)
        return cls(os.WEXITSTATUS(wait_status), at)
