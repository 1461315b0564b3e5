"""crun: runc's arguments with a few differences, and a quirk on hybrid hosts.

crun (1.8 as well as 1.28) refuses to create a container where /sys/fs/cgroup/unified is a cgroup2 file system that
lists a controller (often only hugetlb): "cgroups in hybrid mode not supported, drop all controllers from cgroupv2". It
looks there before anything else, so neither ``--cgroup-manager=disabled`` nor a spec without cgroupsPath and resources
helps. Where it sees no v2 hierarchy it takes the host for a v1 host and works in full, limits included. So
on such hosts it runs in a mount namespace of its own without that one mount. Every command does, not only create:
crun finds its groups by the same look.

Nothing else is different in that namespace. Propagation is left as it is, so mounts of a bundle with ``rshared`` still
reach the host; only the tmpfs on /sys/fs/cgroup is made private there, or the unmount itself would reach the host.

With ``cgroups="disabled"`` the container stays in the shim's group; pause, resume, update and ps then fail, since they
work on the container's group.

Source: crun(1); crun's src/libcrun/cgroup.c (libcrun_cgroup_enter); mount_namespaces(7).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import Unimplemented
from shim.runtime.runc import RuncCommandLine, criu_flags

if TYPE_CHECKING:
    from shim.runtime.options import CheckpointOptions

__all__ = ["CrunCommandLine", "refuses_hierarchy"]

_CGROUP_FLAGS = {
    "runtime": [],
    "systemd": ["--systemd-cgroup"],
    "disabled": ["--cgroup-manager=disabled"],
}
_HIDE_V2 = 'mount --make-private "$0" && umount --lazy "$0/unified" && exec "$@"'


def refuses_hierarchy(mount_point: str = "/sys/fs/cgroup") -> bool:
    """Whether crun would refuse the cgroups at ``mount_point``: hybrid, and v2 has a controller."""
    try:
        return bool(Path(mount_point, "unified", "cgroup.controllers").read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class CrunCommandLine(RuncCommandLine):
    """crun's argument lists."""

    hide_v2: bool = False
    """Run without the v2 hierarchy in view; needs root, as hybrid hosts do anyway."""

    def __post_init__(self) -> None:
        """Unlike runc, crun can leave cgroups alone."""

    def launcher(self) -> list[str]:
        """crun, where need be through unshare and sh, which both end up as crun in the same process."""
        if not self.hide_v2:
            return [self.binary]
        unshare = ["unshare", "--mount", "--propagation", "unchanged"]
        return [*unshare, "sh", "-c", _HIDE_V2, "/sys/fs/cgroup", self.binary]

    def flags(self) -> list[str]:
        """The global flags."""
        return [*self.common_flags(), *_CGROUP_FLAGS[self.cgroups]]

    def checkpoint(self, container_id: str, options: CheckpointOptions) -> list[str]:
        """The container is written to ``options.image_path``."""
        _refuse_empty_namespaces(options)
        # Not super(): dataclass(slots=True) makes a second class, of which a bare super() knows nothing.
        return RuncCommandLine.checkpoint(self, container_id, options)

    def restore(
        self,
        container_id: str,
        bundle: str,
        options: CheckpointOptions,
        *,
        pid_file: str,
        console_socket: str | None,
    ) -> list[str]:
        """A container is made from ``options.image_path`` and runs, detached."""
        # crun has no --no-subreaper, and needs none: it never becomes subreaper when it detaches.
        _refuse_empty_namespaces(options)
        return self.command(
            "restore",
            *self.placement(bundle, pid_file, console_socket),
            "--detach",
            *criu_flags(options),
            container_id,
        )


def _refuse_empty_namespaces(options: CheckpointOptions) -> None:
    if options.empty_namespaces:
        raise Unimplemented("crun cannot checkpoint or restore with empty namespaces; runc can")
