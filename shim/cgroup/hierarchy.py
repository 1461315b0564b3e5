"""Which cgroup hierarchies this host has, and where in them a process lives.

The parsers are pure and take the text of /proc/self/mountinfo and /proc/<pid>/cgroup. ``detect`` and ``membership_of``
read the files. A ``Hierarchy`` is a value: nothing in it changes when something is mounted later.

A path in /proc/<pid>/cgroup starts at the root of the reader's cgroup namespace; a mount shows the part of the
hierarchy below its own root (not "/" in a container without a cgroup namespace). ``directory`` joins the two.

Source: cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shim.errors import FailedPrecondition, NotFound, from_os_error
from shim.linux import mountinfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.linux.mountinfo import MountEntry

__all__ = [
    "Hierarchy",
    "Membership",
    "Mode",
    "Mount",
    "detect",
    "membership_of",
    "parse_membership",
    "survey",
]

Mode = Literal["unified", "hybrid", "legacy", "none"]

_UNIFIED_HOME = "/sys/fs/cgroup"

# The subsystems of kernel/cgroup; other words in the options of a v1 mount are flags (xattr, noprefix, ...).
_LEGACY_CONTROLLERS = frozenset(
    {"blkio", "cpu", "cpuacct", "cpuset", "debug", "devices", "freezer", "hugetlb", "memory", "misc"}
    | {"net_cls", "net_prio", "perf_event", "pids", "rdma"}
)


@dataclass(frozen=True, slots=True)
class Mount:
    """One hierarchy as this process sees it."""

    mount_point: str
    root: str = "/"
    """The group that appears at the mount point."""

    def directory(self, path: str) -> str:
        """The directory of the group ``path``, as /proc/<pid>/cgroup names it.

        Raises:
            FailedPrecondition: it lies outside of what is mounted, or outside of our cgroup namespace.
        """
        root = self.root.rstrip("/")
        if ".." in path.split("/") or not f"{path}/".startswith(f"{root}/"):
            raise FailedPrecondition(
                f"cgroup {path} is not visible below {self.mount_point} (which shows {self.root})"
            )
        return self.mount_point + path[len(root) :].rstrip("/")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The cgroup hierarchies of this host.

    ``unified`` mode is cgroup v2 alone: the one in which groups and limits are ours. In ``hybrid`` mode a v2 mount
    exists beside v1 controllers, in ``legacy`` there are only v1 controllers, in ``none`` nothing is mounted.
    """

    mode: Mode
    unified: Mount | None = None
    controllers: frozenset[str] = frozenset()
    """Controllers of the v2 hierarchy, at its mount point."""
    legacy: Mapping[str, Mount] = field(default_factory=dict)
    """v1 mounts by controller; named hierarchies as ``name=systemd``."""

    @property
    def writes_limits(self) -> bool:
        """Whether limits are files of ours; if not, they go to the OCI runtime."""
        return self.mode == "unified"

    def describe(self) -> str:
        """One line for logs and for ``doctor``."""
        if self.mode == "none":
            return "no cgroup hierarchy is mounted"
        if self.mode == "unified" and self.unified:
            names = " ".join(sorted(self.controllers)) or "none"
            return f"cgroup v2 at {self.unified.mount_point}, controllers: {names}"
        names = " ".join(sorted(name for name in self.legacy if "=" not in name)) or "none"
        beside = f", cgroup v2 without them at {self.unified.mount_point}" if self.unified else ""
        return f"cgroup v1 ({self.mode}), controllers: {names}{beside}"


@dataclass(frozen=True, slots=True)
class Membership:
    """The groups of one process, as /proc/<pid>/cgroup names them."""

    unified: str | None
    legacy: Mapping[str, str]
    """Path by v1 controller; named hierarchies as ``name=systemd``."""


def _legacy_names(super_options: str) -> list[str]:
    options = super_options.split(",")
    return [name for name in options if name in _LEGACY_CONTROLLERS or name.startswith("name=")]


def _unified_mount(entries: list[MountEntry]) -> Mount | None:
    mounts = [entry for entry in entries if entry.fs_type == "cgroup2"]
    # Beside the usual one there may be others: systemd's in a hybrid host, a bind mount for a container.
    mounts.sort(key=lambda entry: (entry.mount_point != _UNIFIED_HOME, entry.root != "/"))
    return Mount(mounts[0].mount_point, mounts[0].root) if mounts else None


def _mode(unified: Mount | None, legacy: Mapping[str, Mount]) -> Mode:
    # A named v1 hierarchy has no controllers: it takes nothing away from v2.
    if any("=" not in name for name in legacy):
        return "hybrid" if unified else "legacy"
    return "unified" if unified else "none"


def survey(entries: list[MountEntry]) -> Hierarchy:
    """The hierarchies among ``entries``; pure, so ``controllers`` of v2 stay empty."""
    legacy: dict[str, Mount] = {}
    for entry in entries:
        if entry.fs_type == "cgroup":
            for name in _legacy_names(entry.super_options):
                legacy.setdefault(name, Mount(entry.mount_point, entry.root))
    unified = _unified_mount(entries)
    return Hierarchy(_mode(unified, legacy), unified, frozenset(), legacy)


def detect() -> Hierarchy:
    """The hierarchies that this process sees now.

    Raises:
        ShimError: /proc is missing, or the v2 mount cannot be read.
    """
    try:
        found = survey(mountinfo.read())
        if found.unified is None:
            return found
        controllers = (
            (Path(found.unified.mount_point) / "cgroup.controllers").read_text(encoding="ascii").split()
        )
    except OSError as error:
        raise from_os_error(error, "cannot find out about cgroups") from error
    return Hierarchy(found.mode, found.unified, frozenset(controllers), found.legacy)


def parse_membership(text: str) -> Membership:
    """The content of /proc/<pid>/cgroup: lines of ``id:controllers:path``.

    Raises:
        ValueError: a line has too few fields.
    """
    unified = None
    legacy: dict[str, str] = {}
    for line in text.split("\n"):
        if not line:
            continue
        # The path may contain colons. No name of a group may contain a newline (cgroup_mkdir refuses it).
        number, names, path = line.split(":", 2)
        if number == "0" and not names:
            unified = path
        else:
            legacy.update(dict.fromkeys(names.split(","), path))
    return Membership(unified, legacy)


def membership_of(pid: int | str) -> Membership:
    """The groups in which ``pid`` (or ``"self"``) is now.

    Raises:
        NotFound: there is no such process.
    """
    try:
        # Bytes: the text layer would take a carriage return in a name for the end of a line.
        text = os.fsdecode(Path(f"/proc/{pid}/cgroup").read_bytes())
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NotFound(f"process {pid} does not exist") from error
    return parse_membership(text)
