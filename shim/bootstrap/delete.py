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


def delete_from_disk(bundle: str | Path) -> Remains:
    """No process, cgroup, mount or runtime state of the container is left; its files stay. Works twice.

    Raises:
        ShimError: something could not be removed; the rest was.
    """
    return asyncio.run(_delete(Bundle(Path(bundle))))


async def _delete(bundle: Bundle) -> Remains:
    reaper = Reaper()
    reaper.start()
    try:
        hierarchy = detect()
        await clear_sandbox(bundle, reaper, hierarchy)
        return await clear(bundle, reaper, hierarchy)
    finally:
        reaper.stop()
