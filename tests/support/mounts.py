"""Mounts as the tests see them: listing, and clearing a folder before it is removed.

``shutil.rmtree`` walks through a bind mount and empties what lies behind it, so a folder in which a test may have left
a mount is cleared with ``unmount_below`` first.
"""

from __future__ import annotations

import subprocess
from pathlib import Path


def mount_points() -> dict[int, str]:
    """Mount id to mount point, of this mount namespace, in mount order (proc_pid_mountinfo(5))."""
    points = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount_id, _, _, _, point, *_ = line.split(" ")
        points[int(mount_id)] = point.encode().decode("unicode_escape")
    return points


def unmount_below(folder: Path) -> None:
    """Nothing is mounted on or below ``folder`` any more; what is busy is detached."""
    below = [p for p in mount_points().values() if Path(p).is_relative_to(folder)]
    for point in reversed(below):
        subprocess.run(["umount", "--lazy", point], check=True)
