"""The mounts of a mount namespace, from the text of /proc/<pid>/mountinfo.

Pure: text in, entries out, in the order in which they were mounted. A mount point may occur more than once; the last
one hides the others.

Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MountEntry", "parse", "read"]

# The kernel writes space, tab, newline, backslash and '#' as a backslash and three octal digits.
_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line; paths and options are unescaped."""

    mount_id: int
    parent_id: int
    device: str
    """``major:minor`` of the file system."""
    root: str
    """The directory of that file system that is seen at the mount point."""
    mount_point: str
    options: str
    """Options of this mount alone (``ro`` after a read-only bind is here)."""
    fs_type: str
    source: str
    super_options: str
    """Options of the file system (the controllers of a cgroup v1 hierarchy are here)."""
    propagation: tuple[str, ...] = ()
    """``shared:N``, ``master:N``, ``propagate_from:N``, ``unbindable``; empty for a private mount."""


def _unescape(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field) if "\\" in field else field


def _parse_line(line: str) -> MountEntry:
    # Optional fields vary in number and end at a field of one dash.
    front, _, back = line.partition(" - ")
    mount_id, parent_id, device, root, mount_point, options, *optional = front.split(" ")
    # An empty source leaves two spaces in a row; splitting at single spaces keeps it a field.
    fs_type, source, super_options = back.split(" ", 2)
    return MountEntry(
        int(mount_id),
        int(parent_id),
        device,
        _unescape(root),
        _unescape(mount_point),
        options,
        fs_type,
        _unescape(source),
        _unescape(super_options),
        tuple(field for field in optional if field),
    )


def parse(text: str) -> list[MountEntry]:
    """The entries of ``text``, oldest first.

    Raises:
        ValueError: a line has too few fields.
    """
    return [_parse_line(line) for line in text.split("\n") if line]


def read(pid: int | str = "self") -> list[MountEntry]:
    """The mounts that ``pid`` sees; names that are no UTF-8 keep their bytes (surrogateescape).

    Raises:
        OSError: the process is gone.
    """
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return parse(file.read())
