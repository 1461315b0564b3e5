"""Clear away a container whose shim is gone: ``ocishim delete --force``, and containerd's ``delete``.

An event loop of its own, since the runtime is run as everywhere else: with a deadline, and reaped.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from shim.cgroup.hierarchy import detect
from shim.process import Reaper
from shim.task.bundle import Bundle
from shim.task.remains import clear
from shim.task.sandbox import clear_sandbox

if TYPE_CHECKING:
    from shim.task.remains import Remains

__all__ = ["delete_from_disk"]


def delete_from_disk(bundle: str | Path, runtime_timeout_s: float | None = None) -> Remains:
    """No process, cgroup, mount or runtime state of the container is left; its files stay. Works twice.

    One call of the OCI runtime may take ``runtime_timeout_s``; None: as long as usual.

    Raises:
        ShimError: something could not be removed; the rest was.
    """
    return asyncio.run(_delete(Bundle(Path(bundle)), runtime_timeout_s))


async def _delete(bundle: Bundle, runtime_timeout_s: float | None) -> Remains:
    reaper = Reaper()
    reaper.start()
    try:
        hierarchy = detect()
        await clear_sandbox(bundle, reaper, hierarchy, runtime_timeout_s)
        return await clear(bundle, reaper, hierarchy, runtime_timeout_s)
    finally:
        reaper.stop()
