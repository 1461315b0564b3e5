"""What a process waits for that is moved into a group, begun before it is.

A move waits for an RCU grace period, 10 ms or so, unless there was another one a moment ago: the kernel's lock that stands
between moves and forks costs a fork nothing as long as nobody wants to move, and a grace period to whoever does. An OCI runtime
moves each process that it makes in a container. A move of no consequence, that of a thread to where it is, sets the kernel
going while the runtime still starts. It is a thread of its own for it, as it waits like any other; meanwhile it holds
cgroup_mutex, as the runtime would just as long. So a create gains nothing by it: its first step is to make groups.

The mount option favordynmods, which few hosts have, would make forks dearer and moves cheap.

Source: kernel/cgroup/cgroup.c (cgroup_procs_write_start), kernel/rcu/sync.c, cgroups(7).
"""

from __future__ import annotations

import _thread
import os
import time
from typing import TYPE_CHECKING

from shim.cgroup.hierarchy import membership_of
from shim.errors import FailedPrecondition, ShimError

if TYPE_CHECKING:
    from shim.cgroup.hierarchy import Hierarchy

__all__ = ["Migration"]

# The lock stays as it is for another grace period.
_LASTS_S = 0.01


class Migration:
    """Moves that will come soon, of one shim."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.possible = True
        """Whether we may move ourselves, as far as is known; where not, nothing is done."""
        self._hierarchy = hierarchy
        self._file = ""
        self._under_way = False
        self._begun = -_LASTS_S

    def expect(self) -> None:
        """Somebody will move a process within the next milliseconds."""
        now = time.monotonic()
        if not self.possible or self._under_way or now - self._begun < _LASTS_S:
            return
        self._begun = now
        self._under_way = True
        try:
            _thread.start_new_thread(self._move, ())
        except RuntimeError:  # there can be no more threads
            self._under_way = False

    def _move(self) -> None:
        try:
            self._file = self._file or self._path()
            fd = os.open(self._file, os.O_WRONLY | os.O_CLOEXEC)
            try:
                # By its number: for whoever moves itself as 0 the kernel does without the lock.
                os.write(fd, b"%d" % _thread.get_native_id())
            finally:
                os.close(fd)
        except (OSError, ShimError):
            self.possible = False
        finally:
            self._under_way = False

    def _path(self) -> str:
        """Where a thread of ours is moved to where it is."""
        ours, found = membership_of("self"), self._hierarchy
        if found.unified and ours.unified:
            return f"{found.unified.directory(ours.unified)}/cgroup.threads"
        for name, mount in found.legacy.items():
            if name in ours.legacy:
                return f"{mount.directory(ours.legacy[name])}/tasks"
        raise FailedPrecondition("no cgroup hierarchy is mounted that we are in")
