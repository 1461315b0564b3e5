"""Cgroups that tests make themselves, in every hierarchy that there is."""

from __future__ import annotations

from pathlib import Path

from support import bed


def everywhere(name: str) -> list[Path]:
    """The directories of a group at the top of each hierarchy, made or not."""
    tops = [bed.CGROUP] if bed.has_cgroup2() else [p for p in bed.CGROUP.iterdir() if not p.is_symlink()]
    return [top / name for top in tops]


def make(folder: Path) -> None:
    """The group is there, and processes may enter it."""
    folder.mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty at first in v1, and nobody can enter then
        if (folder / name).exists() and not bed.has_cgroup2():
            (folder / name).write_text((folder.parent / name).read_text())
