"""Ending a process together with everything it started.

A runtime that hangs may have forked: helpers, hooks, the first stage of a container, and some of them have a session of
their own, so killing a process group would miss them. Parents are stopped before their children are listed: a stopped
process neither forks nor reaps, so the list is complete and the pids in it stay theirs.

What had been orphaned before (daemons of a hook) is no descendant any more and is left alone.

Source: proc_pid_task(5), "children"; kill(2).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

__all__ = ["kill_tree"]


def kill_tree(pid: int) -> None:
    """``pid``, a child of ours that nobody has reaped, and all its descendants have got SIGKILL."""
    family = [pid]
    for member in family:  # grows while we walk
        _signal(member, signal.SIGSTOP)
        family += _children(member)
    for member in family:
        _signal(member, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            # A thread that ended between the two calls has handed its children to another one.
            with suppress(OSError):
                found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
