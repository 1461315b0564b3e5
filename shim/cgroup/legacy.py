"""The cgroup v1 groups of one container, which the OCI runtime made: looked into and killed, never written to.

A container has one group in each v1 hierarchy, unless its runtime was told to leave cgroups alone: then it sits in the
groups of whoever started it, and counting or killing "its group" would hit the shim, or the host. Such groups are left
out; only those count that hold neither the whole host nor ourselves.

Source: cgroups(7); kernel Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.cgroup import tree
from shim.cgroup.legacy_stats import Gauge
from shim.errors import ShimError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.cgroup.hierarchy import Hierarchy, Membership

__all__ = ["LegacyGroup", "own_to"]

_KILL_ROUNDS = 100

# Where to look for the processes: first the hierarchies that nobody mounts without need.
_PREFERRED = ("pids", "memory", "freezer", "devices", "cpu")


def own_to(path: str, ours: str) -> bool:
    """Whether the group ``path`` belongs to somebody who is neither the whole host nor we, who live in ``ours``."""
    return path != "/" and not f"{ours.rstrip('/')}/".startswith(f"{path.rstrip('/')}/")


class LegacyGroup:
    """The groups in ``directories``, by controller; at least one."""

    __slots__ = ("directories",)

    def __init__(self, directories: Mapping[str, str]) -> None:
        self.directories = dict(directories)

    def __repr__(self) -> str:
        return f"LegacyGroup({self.directories})"

    @classmethod
    def of(cls, theirs: Membership, ours: Membership, hierarchy: Hierarchy) -> LegacyGroup | None:
        """The groups of a process that are its own; None when it has none."""
        directories = {}
        for name, path in theirs.legacy.items():
            if name in hierarchy.legacy and own_to(path, ours.legacy.get(name, "/")):
                # A group that no mount shows cannot be read, and does not matter while another one can.
                with suppress(ShimError):
                    directories[name] = hierarchy.legacy[name].directory(path)
        return cls(directories) if directories else None

    @property
    def _main(self) -> str:
        """The directory that tells who is in the container."""
        names = [name for name in _PREFERRED if name in self.directories]
        return self.directories[names[0] if names else next(iter(self.directories))]

    def pids(self) -> list[int]:
        """The processes in the group and below it, ascending; empty when it is gone."""
        return tree.pids(self._main)

    def gauge(self) -> Gauge:
        """Tells what the kernel counted; zeros when the group is gone."""
        return Gauge(self.directories)

    def frozen(self) -> bool:
        """Whether its processes are stopped, by this freezer or one above."""
        directory = self.directories.get("freezer")
        if directory is None:
            return False
        try:
            return tree.read_file(f"{directory}/freezer.state").strip() == b"FROZEN"
        except OSError as error:
            if error.errno in tree.GONE:
                return False
            raise from_os_error(error, f"cgroup {directory} cannot be read") from error

    def thaw(self) -> None:
        """Its processes run again; nothing happens when it is gone or was not frozen."""
        self._set_freezer("THAWED")

    def _set_freezer(self, state: str) -> None:
        directory = self.directories.get("freezer")
        if directory is None:
            return
        try:
            tree.write_file(f"{directory}/freezer.state", state)
        except OSError as error:
            if error.errno not in tree.GONE:
                raise from_os_error(error, f"cgroup {directory} cannot become {state}") from error

    def kill(self) -> None:
        """SIGKILL was sent to every process in the group and below it, frozen ones too. They may not be gone yet."""
        # Children of a freezing group are born frozen, so the rounds come to an end even with a fork bomb.
        self._set_freezer("FROZEN")
        done: set[int] = set()
        try:
            for _ in range(_KILL_ROUNDS):
                found = set(self.pids()) - done
                if not found:
                    break
                for pid in found:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                done |= found
        finally:
            # A frozen v1 process does not even die.
            self.thaw()
