"""What can be asked of a runtime beyond a container's id: values, no behaviour.

Source: containerd's runc options (``CheckpointOptions``), runc-checkpoint(8), runc-restore(8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Cgroups", "CheckpointOptions"]

Cgroups: TypeAlias = Literal["runtime", "systemd", "disabled"]
"""Who makes a container's cgroup: the runtime by file, the runtime through systemd, or not the runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOptions:
    """How a container is written to, or read from, a checkpoint image."""

    image_path: str
    """Directory of the image; it exists."""
    work_path: str = ""
    """Directory of CRIU's own logs; empty: the image's."""
    parent_path: str = ""
    """An earlier image, relative to this one, against which only changes are stored."""
    leave_running: bool = False
    tcp_established: bool = False
    external_unix_sockets: bool = False
    shell_job: bool = False
    """The container has a terminal."""
    file_locks: bool = False
    empty_namespaces: tuple[str, ...] = ()
    """Namespaces, for example ``network``, that are restored empty."""
    cgroups_mode: str = ""
    """``soft``, ``full``, ``strict`` or ``ignore``; empty: the runtime's default."""
