"""What a runtime may leave on a v1 or hybrid host: empty cgroups that no state of the runtime names.

A runtime makes the groups before it writes its state. When it is killed in between, or forgets them itself (runsc when
its sandbox does not come up, or has ended), its ``delete --force`` does not find them. On a unified host the shim makes and removes the
group itself.

Source: cgroups(7), "Removing cgroups".
"""

from __future__ import annotations

import asyncio
import errno
import json
from pathlib import Path

__all__ = ["cgroups_path", "remove_v1_groups"]

_CGROUP = Path("/sys/fs/cgroup")
_WAIT_S = 0.02


async def remove_v1_groups(path: str, patience_s: float = 0.4) -> None:
    """The groups at ``path`` of every hierarchy are gone, as far as they are empty by then. Never raises."""
    left = _groups(path)
    for _ in range(round(patience_s / _WAIT_S)):
        left = [group for group in left if not _removed(group)]
        if not left:
            return
        # Its processes have been killed, but one that is still ending keeps its group busy.
        await asyncio.sleep(_WAIT_S)


def cgroups_path(bundle: str, container_id: str) -> str:
    """Where the groups of the container are: the path in its config.json, else what runtimes take for one."""
    try:
        path = json.loads(Path(bundle, "config.json").read_bytes())["linux"]["cgroupsPath"]
    except (OSError, ValueError, KeyError, TypeError):
        return container_id
    return path if isinstance(path, str) and path.startswith("/") else container_id


def _groups(path: str) -> list[Path]:
    name = path.strip("/")
    # Only the root of a unified hierarchy has this file here; v1 hierarchies are mounted below.
    if not name or ".." in name.split("/") or (_CGROUP / "cgroup.procs").exists() or not _CGROUP.is_dir():
        return []
    return [group for root in _CGROUP.iterdir() if (group := root / name).is_dir()]


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError as error:
        return error.errno != errno.EBUSY
    return True
