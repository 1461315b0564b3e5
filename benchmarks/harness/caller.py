"""The cgroup of whoever calls the shims: one of its own for CPU time, as a containerd that systemd has started is in.

In the root group the scheduler would group processes by their sessions instead (sched(7), autogroup), and shims that lead a
session, as conmon and this one do, would be measured against a caller in another group, those of containerd in its own.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shim.cgroup.hierarchy import detect, membership_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["group_of_its_own"]


@contextmanager
def group_of_its_own(group: str) -> Iterator[None]:
    """This process is in it, beside ``group`` of the containers, with what it starts; afterwards it is where it was."""
    found, here = detect(), membership_of("self")
    if "cpu" in found.legacy:
        mount, before = found.legacy["cpu"], here.legacy["cpu"]
    elif found.unified is not None and "cpu" in found.controllers:
        mount, before = found.unified, here.unified or "/"
    else:
        yield
        return
    directory = Path(mount.mount_point, f"{group}-caller")
    directory.mkdir()
    (directory / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        Path(mount.directory(before), "cgroup.procs").write_text(str(os.getpid()))
