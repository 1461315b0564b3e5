"""What the containers of a sandbox find in /etc and /dev/shm: the pod's own, which CRI leaves to whoever makes the sandbox.

They lie in the sandbox's bundle. What a container's config.json mounts there itself stays, but for a /dev/shm of the
container's alone: with the ipc namespace its memory is shared.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.errors import from_os_error
from shim.linux.mounts import Mount, mount_all, unmount_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PodFiles"]

_SHM = "/dev/shm"  # noqa: S108 - the container's
_SHM_FLAGS = ("nosuid", "noexec", "nodev")


@dataclass(frozen=True, slots=True)
class PodFiles:
    """The files of one pod, in ``directory``."""

    directory: Path
    hostname: str = ""
    """Empty: the host's."""
    resolv_conf: str = ""
    """Empty: the host's."""
    shared_memory: bool = False
    """Whether the pod has an ipc namespace of its own, and so a /dev/shm."""
    owner: tuple[int, int] = (0, 0)
    """User and group on this host that are root in the pod."""

    def make(self) -> None:
        """They are there. May block as long as a disk does.

        Raises:
            ShimError: they cannot be made; nothing is left.
        """
        self.remove()
        try:
            self.directory.mkdir(mode=0o755)
            self._write("hostname", f"{self.hostname}\n" if self.hostname else "")
            self._write("resolv.conf", self.resolv_conf)
            self._write("hosts", "")
            if self.shared_memory:
                shm = self.directory / "shm"
                shm.mkdir()
                uid, gid = self.owner
                options = (*_SHM_FLAGS, "mode=1777", "size=65536k", f"uid={uid}", f"gid={gid}")
                mount_all([Mount("tmpfs", "shm", "", options)], str(shm))
        except OSError as error:
            self.remove()
            raise from_os_error(error, f"the files of the pod cannot be made in {self.directory}") from error

    def remove(self) -> None:
        """They are gone. Works twice, and when they were never there."""
        unmount_tree(str(self.directory / "shm"))
        shutil.rmtree(self.directory, ignore_errors=True)

    def laid_into(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The config.json ``raw`` with mounts of them."""
        mounts = list(raw.get("mounts") or [])
        if self.shared_memory:
            mounts = [m for m in mounts if m.get("destination") != _SHM or m.get("type") == "bind"]
        taken = {m.get("destination") for m in mounts}
        access = "ro" if (raw.get("root") or {}).get("readonly") else "rw"
        for name in ("hostname", "hosts", "resolv.conf", "shm"):
            target, flags = (_SHM, ("rw", *_SHM_FLAGS)) if name == "shm" else (f"/etc/{name}", (access,))
            source = self.directory / name
            if target not in taken and source.exists():
                options = ["rbind", "rprivate", *flags]
                mounts.append(
                    {"destination": target, "type": "bind", "source": str(source), "options": options}
                )
        return {**raw, "mounts": mounts}

    def _write(self, name: str, text: str) -> None:
        if not text:
            try:
                text = Path("/etc", name).read_text(encoding="utf-8", errors="surrogateescape")
            except FileNotFoundError:
                return
        file = self.directory / name
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        if self.owner != (0, 0):
            os.chown(file, *self.owner)
