"""What is left of a plugin's container, and how it is cleared away: at its end, or after a process that was killed.

A plugin outlives the process that started it, for another one to attach to it. So of those without an owner only what has
ended is cleared away; one that runs is ended with ``ocishim sandbox stop`` and ``delete``, and then the same goes for it.
Everything is right when it is done again, and by two processes at once.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.errors import DataLoss, NotFound, ShimError, Unavailable
from shim.plugin.container.addresses import Addresses
from shim.plugin.container.home import Home, homes, locked_homes
from shim.plugin.container.rootfs import drop_unused
from shim.process.thread import in_thread
from shim.sandbox import SandboxConfig, State, clear_sandbox, fetch_sandbox
from shim.sandbox.record import SandboxDirectory
from shim.sandbox.remains import clear_away
from shim.sandbox.shim_client import ShimClient

if TYPE_CHECKING:
    from shim.config import Config as Settings
    from shim.image import Images

__all__ = ["addresses_of", "clear", "clear_ended", "container_of"]

_LOOKS = 100
_LOOK_AGAIN_S = 0.05

_log = logging.getLogger(__name__)


def container_of(plugin_id: str) -> str:
    """The id of the container in the plugin's sandbox.

    Of no other container in any sandbox, and neither the beginning of another's nor the other way round: runsc takes a
    part of an id for the whole.
    """
    return f"in-{plugin_id}"


def addresses_of(settings: Settings) -> Addresses:
    """Who has which address, among the plugins of these settings."""
    return Addresses(
        settings.state_root, settings.storage, lambda owner: Home(settings.data_root, owner).exists()
    )


async def clear(settings: Settings, home: Home) -> None:
    """No process, mount, cgroup, network, address or file of the plugin is left.

    Raises:
        ShimError: something stays; it can be tried again.
    """
    try:
        record = await in_thread(home.load)
    except (NotFound, DataLoss):
        record = None
    await _clear_sandbox(settings, home.id, record.cgroup_parent if record else "")
    if record is not None and record.networks:
        await in_thread(addresses_of(settings).free, record.networks, home.id)
    await in_thread(home.remove)


async def _clear_sandbox(settings: Settings, plugin_id: str, cgroup_parent: str) -> None:
    directory = SandboxDirectory(settings.state_root, plugin_id, settings.storage)
    for _ in range(_LOOKS):
        try:
            await clear_sandbox(plugin_id, state_root=settings.state_root, storage=settings.storage)
        except Unavailable:
            continue  # its shim has just ended, by somebody else's doing
        except NotFound:
            if not await in_thread(_is_known, directory):
                break
            # Its container is being made, for a process that was killed meanwhile: what that leaves is known when it ends.
            await asyncio.sleep(_LOOK_AGAIN_S)
        else:
            return
    if directory.path.exists():
        await _clear_half_made(directory, SandboxConfig(plugin_id, cgroup_parent=cgroup_parent))


def _is_known(directory: SandboxDirectory) -> bool:
    try:
        directory.load()
    except NotFound:
        return False
    return True


async def _clear_half_made(directory: SandboxDirectory, config: SandboxConfig) -> None:
    """Whoever made it was killed half way: there may be no record, and a shim that knows no container yet."""
    client = None
    with suppress(FileNotFoundError, Unavailable):
        address = (directory.path / "address").read_text(encoding="utf-8")
        client = await ShimClient.connect(directory.id, address)
    try:
        await clear_away(directory, config, client)
    finally:
        if client is not None:
            client.close()


async def clear_ended(settings: Settings, images: Images) -> None:
    """Of plugins that have ended, and whose owners are gone, nothing is left, nor of unpacked images that nobody needs.

    What cannot be cleared away is in the log.
    """
    for home, record in await in_thread(homes, settings.data_root):
        if record is not None and (record.has_owner or record.state_root != settings.state_root):
            continue
        try:
            if not await _runs(settings, home.id):
                await clear(settings, home)
        except ShimError as error:
            _log.warning("plugin container %s, which has ended, cannot be cleared away: %s", home.id, error)
    try:
        await in_thread(_drop_images, settings.data_root, images)
    except ShimError as error:
        _log.warning("unpacked images cannot be cleared away: %s", error)


def _drop_images(data_root: str, images: Images) -> None:
    with locked_homes(data_root) as found:
        used = {record.image_id for _, record in found if record is not None}
        # Whose a broken record is nobody knows.
        if all(record is not None for _, record in found):
            drop_unused(data_root, used | {image.id for image in images.list()})


async def _runs(settings: Settings, plugin_id: str) -> bool:
    try:
        sandbox = await fetch_sandbox(plugin_id, state_root=settings.state_root, storage=settings.storage)
        async with sandbox:
            status = await sandbox.status_container(container_of(plugin_id))
    except (NotFound, Unavailable, DataLoss):
        return False
    return status.state in {State.RUNNING, State.PAUSED}
