"""A disk that hangs: an ext4 of its own whose writers the kernel holds back until it is thawed, as it does for snapshots.

Man page: ioctl_fifreeze, fsfreeze(8). Root, and a loop device.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.mounts import unmount_below

_FIFREEZE = 0xC0045877
_FITHAW = 0xC0045878


class Disk:
    """Mounted on ``path``; thawed at the end, at the latest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frozen = False

    def freeze(self) -> None:
        """Whoever writes from now on waits in the kernel, where no signal reaches it."""
        self._control(_FIFREEZE)
        self.frozen = True

    def thaw(self) -> None:
        if self.frozen:
            self._control(_FITHAW)
            self.frozen = False

    def _control(self, request: int) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, request, 0)
        finally:
            os.close(fd)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A disk of 8 MiB on ``folder / "disk"``."""
    image, place = folder / "disk.image", folder / "disk"
    image.touch()
    os.truncate(image, 8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    disk = Disk(place)
    try:
        yield disk
    finally:
        disk.thaw()
        unmount_below(place)
