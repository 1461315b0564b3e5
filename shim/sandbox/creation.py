"""How a sandbox is made, step by step, each with its undoing; and how one is found."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.config import load
from shim.errors import DataLoss, NotFound, Unavailable
from shim.net import NetworkNamespace, pin, unpin
from shim.oci.identifiers import validate_id
from shim.sandbox.config import SandboxConfig
from shim.sandbox.record import Record, SandboxDirectory
from shim.sandbox.remains import cgroup_of, clear_away
from shim.sandbox.sandbox import Sandbox
from shim.sandbox.shim_client import ShimClient, start_shim
from shim.sandbox.states import State

if TYPE_CHECKING:
    from shim.sandbox.status import SandboxStatus

__all__ = ["clear_sandbox", "create_sandbox", "fetch_sandbox", "list_sandboxes"]


async def create_sandbox(
    config: SandboxConfig, *, state_root: str | None = None, storage: str | None = None
) -> Sandbox:
    """The sandbox runs, with its interfaces, its routes, and its containers started in their order.

    The caller releases it. ``state_root`` and ``storage`` are those of the configuration (``shim.config``) where they are
    not given; they have to be the same to find it again.

    Raises:
        AlreadyExists: the id is taken.
        ShimError: a step failed; nothing is left.
    """
    directory = _directory(config.id, state_root, storage)
    # Into the record, too: whoever clears it away later may have another configuration.
    config = replace(config, cgroup_parent=config.cgroup_parent or load().cgroup_parent)
    async with AsyncExitStack() as undo:
        directory.claim()
        undo.callback(shutil.rmtree, directory.path, ignore_errors=True)
        netns = "" if config.host_network else directory.netns
        if netns:
            pin(netns)
            undo.callback(unpin, netns)
            await _connect(config, netns)
        address = await start_shim(
            config.id, directory.path, directory.socket_dir, _options(config, directory)
        )
        client = await ShimClient.connect(config.id, address)
        undo.callback(client.close)
        undo.push_async_callback(clear_away, directory, config, client)
        await client.create_sandbox(config, directory.path, netns, cgroup_of(config))
        await client.start_sandbox()
        gvisor = await client.has_kernel()
        await directory.save(Record(config, State.RUNNING, address, time.time_ns(), gvisor))
        sandbox = Sandbox(directory, config, client)
        for container in config.containers:
            await sandbox.create_container(container)
        for container in config.containers:
            await sandbox.start_container(container.id)
        undo.pop_all()
    return sandbox


def _options(config: SandboxConfig, directory: SandboxDirectory) -> dict[str, Any]:
    state_root = str(directory.path.parent.parent)
    return {
        "runtime": config.runtime,
        "state_root": state_root,
        # Output waits in the FIFOs until somebody opens them.
        "fifo_timeout": 0.0,
        # Its groups are below one of its own, of which the bundles have the path; the configuration's would go over it.
        "cgroup_parent": "",
        **config.options,
    }


async def fetch_sandbox(
    sandbox_id: str, *, state_root: str | None = None, storage: str | None = None
) -> Sandbox:
    """The sandbox of that id, whoever made it; the caller releases it.

    Raises:
        NotFound: there is none.
        DataLoss: its record is broken.
    """
    validate_id(sandbox_id, "sandbox id")
    directory = _directory(sandbox_id, state_root, storage)
    record = directory.load()
    client = None
    with suppress(Unavailable):
        client = await ShimClient.connect(sandbox_id, record.address)
    return Sandbox(directory, record.config, client)


async def clear_sandbox(
    sandbox_id: str, *, state_root: str | None = None, storage: str | None = None
) -> None:
    """Nothing is left of the sandbox, whether it runs or not, and with a record that is broken, too.

    Of such a record nobody can read the parent of its cgroups: those are removed from the usual place only.

    Raises:
        NotFound: there is none.
        ShimError: something stays; it can be tried again.
    """
    try:
        sandbox = await fetch_sandbox(sandbox_id, state_root=state_root, storage=storage)
    except DataLoss:
        await _clear_without_record(_directory(sandbox_id, state_root, storage))
        return
    async with sandbox:
        if not (await sandbox.status()).note:
            await sandbox.stop()
        await sandbox.delete()


async def _clear_without_record(directory: SandboxDirectory) -> None:
    client = None
    # The shim's program wrote down the address, too, for containerd.
    with suppress(FileNotFoundError, Unavailable):
        client = await ShimClient.connect(directory.id, (directory.path / "address").read_text())
    try:
        await clear_away(directory, SandboxConfig(directory.id), client)
    finally:
        if client is not None:
            client.close()


async def list_sandboxes(*, state_root: str | None = None, storage: str | None = None) -> list[SandboxStatus]:
    """All of them, sorted by id; one that is just being made or deleted is left out."""
    parent = Path(state_root or load().state_root, "sandboxes")
    found = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(parent)):
            with suppress(NotFound, DataLoss):
                found.append(await _status(name, state_root, storage))
    return found


async def _status(name: str, state_root: str | None, storage: str | None) -> SandboxStatus:
    async with await fetch_sandbox(name, state_root=state_root, storage=storage) as sandbox:
        return await sandbox.status()


def _directory(sandbox_id: str, state_root: str | None, storage: str | None) -> SandboxDirectory:
    config = load()
    return SandboxDirectory(state_root or config.state_root, sandbox_id, storage or config.storage)


async def _connect(config: SandboxConfig, netns: str) -> None:
    async with NetworkNamespace(netns) as namespace:
        await namespace.raise_loopback()
        for interface in config.interfaces:
            await namespace.add_interface(interface)
        if config.routes:
            await namespace.replace_routes(config.routes)
