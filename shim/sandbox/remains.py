"""What is left of a sandbox, and how it is cleared away: by its shim, or after it. Right when it is done again."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.cgroup.group import clean_path
from shim.cgroup.hierarchy import detect
from shim.cgroup.tree import remove_tree
from shim.errors import FailedPrecondition, NotFound, Unavailable, from_os_error
from shim.net import unpin
from shim.sandbox.shim_client import clear_after_shim

if TYPE_CHECKING:
    from shim.sandbox.config import SandboxConfig
    from shim.sandbox.record import SandboxDirectory
    from shim.sandbox.shim_client import ShimClient

__all__ = ["cgroup_of", "clear_away"]

_DEFAULT_PARENT = "/ocishim"


def cgroup_of(config: SandboxConfig) -> str:
    """The group above those of its containers, counted from the top of the hierarchy."""
    return clean_path(f"{config.cgroup_parent or _DEFAULT_PARENT}/{config.id}")


async def clear_away(directory: SandboxDirectory, config: SandboxConfig, client: ShimClient | None) -> None:
    """No process, mount, namespace, cgroup or file of it is left; ``client`` is None when its shim is gone.

    Raises:
        ShimError: something stays; it can be tried again.
    """
    if client is None or not await _shut_down(client):
        await clear_after_shim(config.id, directory.path)
    await asyncio.to_thread(_remove, directory, config)


async def _shut_down(client: ShimClient) -> bool:
    try:
        await client.shut_down_sandbox()
    except NotFound:
        return True
    except Unavailable:
        return False
    return True


def _remove(directory: SandboxDirectory, config: SandboxConfig) -> None:
    unpin(directory.netns)
    try:
        _remove_groups(cgroup_of(config))
        directory.forget()
        with suppress(FileNotFoundError):
            shutil.rmtree(directory.path)
    except OSError as error:
        raise from_os_error(error, f"what is left of sandbox {config.id} cannot be removed") from error


def _remove_groups(path: str) -> None:
    hierarchy = detect()
    for mount in (hierarchy.unified, *hierarchy.legacy.values()):
        # One that a hierarchy does not show was not made there.
        if mount is not None:
            with suppress(FailedPrecondition):
                remove_tree(mount.directory(path))
