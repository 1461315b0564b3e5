"""What the upper layers ask of a container's cgroup, whichever version it is.

``Group`` (v2) and ``LegacyGroup`` (v1) both have it; ``OomWatcher.add`` takes either. Limits are not here: only v2
groups are ours to write.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from shim.cgroup.group import Group
from shim.cgroup.hierarchy import membership_of
from shim.cgroup.legacy import LegacyGroup, own_to
from shim.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from shim.cgroup.hierarchy import Hierarchy

__all__ = ["Accounting", "group_at", "group_of"]


Accounting: TypeAlias = Group | LegacyGroup
"""``pids()``, ``gauge()``, ``frozen()``, ``thaw()`` and ``kill()`` of a container."""


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


def group_at(path: str, hierarchy: Hierarchy) -> Accounting:
    """The group ``path``, counted from the top, whoever made it.

    Raises:
        NotFound: there is none.
        ShimError: it cannot be looked into.
    """
    if hierarchy.mode == "unified" and hierarchy.unified is not None:
        if not (group := Group(hierarchy.unified, path)).exists():
            raise NotFound(f"cgroup {path} does not exist")
        return group
    directories = {name: mount.directory(path) for name, mount in hierarchy.legacy.items()}
    found = {name: directory for name, directory in directories.items() if os.path.isdir(directory)}
    if not found:
        raise NotFound(f"cgroup {path} does not exist")
    return LegacyGroup(found)
