"""Where a new shim process belongs: which containers it serves, its cgroup, its place before the OOM killer.

Source: containerd pkg/shim/util_linux.go, cmd/containerd-shim-runc-v2/manager; proc_pid_oom_score_adj(5).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, InvalidArgument, from_os_error

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["group_of", "join_cgroup", "raise_oom_score"]

_ANNOTATIONS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
_GREATEST_SCORE = 1000


def group_of(bundle: Path, container_id: str, group: str) -> str:
    """The name under which containers share a shim: the id, the pod's id, or one name for all.

    A bundle without config.json, as containerd's sandboxes have, is a group of its own.
    """
    if group == "node":
        return "node"
    if group == "container":
        return container_id
    try:
        annotations = json.loads((bundle / "config.json").read_bytes()).get("annotations") or {}
    except (OSError, ValueError, AttributeError, RecursionError):
        # What is wrong with it is for Create to say.
        return container_id
    if not isinstance(annotations, dict):
        return container_id
    return next((str(annotations[key]) for key in _ANNOTATIONS if annotations.get(key)), container_id)


def raise_oom_score(pid: int, containerd: int) -> None:
    """The shim is killed before containerd: its score is one above that of process ``containerd``.

    Without the privilege to set it, it stays as inherited.
    """
    with suppress(OSError, ValueError):
        with open(f"/proc/{containerd}/oom_score_adj", encoding="ascii") as file:
            score = int(file.read())
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(min(score + 1, _GREATEST_SCORE)))


def join_cgroup(pid: int, path: str) -> None:
    """The process is in the cgroup ``path`` of every hierarchy, which is made where it is missing; empty: it stays.

    Raises:
        FailedPrecondition: no hierarchy is mounted.
        InvalidArgument: the path leads out of the hierarchy.
        ShimError: it cannot be made or entered.
    """
    if not path:
        return
    if ".." in path.split("/") or "\0" in path:
        raise InvalidArgument(f"shim_cgroup {path!r} is no path of a cgroup")
    from shim.cgroup.hierarchy import detect  # noqa: PLC0415 - seldom wanted

    found = detect()
    mounts = [found.unified] if found.mode == "unified" and found.unified else list(found.legacy.values())
    if not mounts:
        raise FailedPrecondition(f"shim_cgroup {path!r}: no cgroup hierarchy is mounted")
    for mount in mounts:
        directory = f"{mount.mount_point}/{path.strip('/')}"
        try:
            os.makedirs(directory, exist_ok=True)
            _fill_cpuset(mount.mount_point, path)
            with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
        except OSError as error:
            raise from_os_error(error, f"shim_cgroup {path!r} cannot be entered") from error


def _fill_cpuset(mount_point: str, path: str) -> None:
    # A new group of v1's cpuset has no CPUs and no memory nodes, and lets nobody in until it has: cpuset(7).
    above, directory = mount_point, mount_point
    for part in filter(None, path.split("/")):
        above, directory = directory, f"{directory}/{part}"
        for name in ("cpuset.cpus", "cpuset.mems"):
            with suppress(FileNotFoundError):
                _inherit(f"{above}/{name}", f"{directory}/{name}")


def _inherit(source: str, target: str) -> None:
    with open(target, "r+", encoding="ascii") as file:
        if not file.read().strip():
            with open(source, encoding="ascii") as given:
                file.write(given.read())
