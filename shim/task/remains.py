"""What a shim leaves when it is killed, and how to clear it away from disk alone.

Create writes ``container.json`` into the bundle before the runtime makes anything: whoever comes later knows from it which
runtime, which state directory and which cgroup. It is not synced, since a reboot clears away better than we do. Clearing
away works twice, and when there is nothing.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shim.cgroup.group import Group
from shim.config import Config
from shim.errors import NotFound, ShimError
from shim.linux.mounts import unmount_tree
from shim.process import Exit
from shim.runtime import driver_for
from shim.runtime.leftovers import remove_v1_groups
from shim.store import records

if TYPE_CHECKING:
    from shim.cgroup.hierarchy import Hierarchy
    from shim.process import Reaper
    from shim.task.bundle import Bundle

__all__ = ["Remains", "clear", "forget", "remember", "remembered"]

_log = logging.getLogger(__name__)

_KILLED = 137
_REMOVE_S = 5.0
_FIELDS = ("state_root", "runtime", "runtime_root", "systemd_cgroup", "platform", "runsc_config")


@dataclass(frozen=True, slots=True)
class Remains:
    """How the container ended: as it was written down, else killed, now. ``pid`` is the init's, 0 when unknown."""

    pid: int
    exit: Exit
    oom_killed: bool


async def remember(
    bundle: Bundle, container_id: str, namespace: str, config: Config, cgroup_path: str
) -> None:
    """Write down what ``clear`` will need; the pid of the init is in the file in which the runtime left it."""
    settings = {name: getattr(config, name) for name in _FIELDS}
    record = {
        "id": container_id,
        "namespace": namespace,
        "cgroup_path": cgroup_path,
        "config": settings,
    }
    await records.asave(bundle.container_record, record, synced=False)


async def forget(bundle: Bundle) -> None:
    """Nothing is left to clear away."""
    await records.adelete(bundle.pid_file("init"), bundle.container_record, synced=False)


def remembered(bundle: Bundle) -> dict[str, Any] | None:
    """What was written down of the container in this bundle, if anything."""
    try:
        return records.load(bundle.container_record)
    except NotFound:
        return None


async def clear(
    bundle: Bundle,
    reaper: Reaper,
    hierarchy: Hierarchy,
    runtime_timeout_s: float | None = None,
    copy: dict[str, Any] | None = None,
) -> Remains:
    """No process, cgroup, mount or runtime state of the container is left; its files stay.

    One call of the OCI runtime may take ``runtime_timeout_s``, else what is the default: the rest is to be done, too.
    ``copy`` is of the container's record, for a bundle that may be gone.

    Raises:
        ShimError: something could not be removed; the rest was.
    """
    failure: ShimError | None = None
    record = remembered(bundle) or copy
    if record is not None:
        try:
            await _clear_runtime(record, reaper, runtime_timeout_s)
        except ShimError as error:
            failure = error
            _log.warning("container %s: the runtime could not delete it: %s", record["id"], error)
        await _clear_cgroup(record, hierarchy)
    for busy in unmount_tree(str(bundle.rootfs)):
        _log.warning("%s was busy and is detached", busy)
    if failure is not None:
        raise failure
    return _recorded(bundle)


async def _clear_runtime(record: dict[str, Any], reaper: Reaper, timeout_s: float | None) -> None:
    config = Config(**record["config"])
    if timeout_s is not None:
        config = replace(config, runtime_timeout=timeout_s)
    driver = await driver_for(config, record["namespace"], reaper)
    with suppress(NotFound):
        try:
            await driver.delete(record["id"], force=True)
        except ShimError:
            # gVisor deletes no container that is paused, not even by force; and an init in a frozen v1 group does not die.
            with suppress(ShimError):
                await driver.resume(record["id"])
            await driver.delete(record["id"], force=True)


async def _clear_cgroup(record: dict[str, Any], hierarchy: Hierarchy) -> None:
    path, systemd = record["cgroup_path"], record["config"]["systemd_cgroup"]
    if not path or systemd:
        return
    if hierarchy.mode == "unified" and hierarchy.unified is not None:
        await Group(hierarchy.unified, path).aremove(_REMOVE_S)
    else:
        await remove_v1_groups(path)


def _recorded(bundle: Bundle) -> Remains:
    try:
        pid = bundle.read_pid("init")
    except NotFound:
        pid = 0
    try:
        record = records.load(bundle.exit_record)
    except ShimError:
        return Remains(pid, Exit(_KILLED, time.time_ns(), 9), oom_killed=False)
    return Remains(pid, Exit(record["status"], record["exited_at_ns"]), oom_killed=record["oom_killed"])
