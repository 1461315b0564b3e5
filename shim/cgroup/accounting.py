"""What the upper layers ask of a container's cgroup, whichever version it is.

``Group`` (v2) and ``LegacyGroup`` (v1) both have it; ``OomWatcher.add`` takes either. Limits are not here: only v2
groups are ours to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from shim.cgroup.group import Group
from shim.cgroup.hierarchy import membership_of
from shim.cgroup.legacy import LegacyGroup, own_to
from shim.errors import FailedPrecondition

if TYPE_CHECKING:
    from shim.cgroup.hierarchy import Hierarchy

__all__ = ["Accounting", "group_of"]


Accounting: TypeAlias = Group | LegacyGroup
"""``pids()``, ``stats()``, ``frozen()``, ``thaw()`` and ``kill()`` of a container."""


def group_of(pid: int, hierarchy: Hierarchy) -> Accounting | None:
    """The group in which ``pid`` is now, and which its container therefore has.

    To be asked while the container is created: a running one may move to a group below its own. None when the process
    has no group of its own, because its runtime was told to leave cgroups alone.

    Raises:
        NotFound: there is no such process.
    """
    theirs, ours = membership_of(pid), membership_of("self")
    if hierarchy.mode != "unified":
        return LegacyGroup.of(theirs, ours, hierarchy)
    if hierarchy.unified is None or theirs.unified is None or not own_to(theirs.unified, ours.unified or "/"):
        return None
    try:
        directory = hierarchy.unified.directory(theirs.unified)
    except FailedPrecondition:
        return None
    return Group(hierarchy.unified, directory[len(hierarchy.unified.mount_point) :])
