"""The cgroup of one container: where it is, who makes it, what it says.

Two cases, decided once from the host and the configuration:

- cgroup v2 (``ours``): the shim makes the group and writes its limits before the runtime runs, and removes it at the end.
  The runtime gets the group's path, finds the group made, and adds its rules for devices.
- systemd driver, or v1 controllers: the runtime makes the group and gets the limits through config.json. The log says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shim.cgroup.accounting import group_of
from shim.cgroup.group import Group, clean_path
from shim.cgroup.limits import controllers_of, plan
from shim.errors import DeadlineExceeded, NotFound
from shim.oci.spec import with_cgroups_path, with_devices_only
from shim.runtime.leftovers import remove_v1_groups
from shim.task.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.cgroup.accounting import Accounting
    from shim.cgroup.stats import Stats
    from shim.config import Config
    from shim.oci.spec import Spec
    from shim.task.workshop import Workshop

__all__ = ["ControlGroup"]

_log = logging.getLogger(__name__)

_DEFAULT_PARENT = "/ocishim"
_DEFAULT_STATE_ROOT = "/run/ocishim"
_REMOVE_S = 10.0
_LOOK_AGAIN_S = 0.01


class ControlGroup:
    """The group of one container; ``path`` is its cgroupsPath, empty when the runtime chooses."""

    def __init__(self, shop: Workshop, container_id: str, path: str, *, systemd: bool) -> None:
        self.path = path
        self.unified = shop.hierarchy.mode == "unified"
        self.ours = self.unified and not systemd
        self._shop = shop
        self._id = container_id
        self._group: Accounting | None = None
        self._meter: Meter | None = None
        self._watched = False
        self._kills = 0
        self._on_oom: Callable[[], None] = lambda: None

    @classmethod
    def plan(cls, shop: Workshop, config: Config, spec: Spec, container_id: str) -> ControlGroup:
        """Where the group will be. Nothing is made yet.

        Raises:
            InvalidArgument: the path is not a cgroup path.
        """
        if config.systemd_cgroup:
            return cls(shop, container_id, spec.cgroups_path, systemd=True)
        if config.cgroup_parent:
            path = f"{config.cgroup_parent}/{container_id}"
        elif os.geteuid() and not spec.cgroups_path and shop.hierarchy.mode != "unified":
            # A user may seldom make groups here. Where no path asks for one, the runtime goes on without, unless there are
            # limits: then it says that it cannot set them.
            return cls(shop, container_id, "", systemd=False)
        else:
            path = spec.cgroups_path or f"{_DEFAULT_PARENT}/{_distinct(config.state_root, container_id)}"
        return cls(shop, container_id, clean_path(path), systemd=False)

    def rewrite(self, raw: dict[str, Any]) -> dict[str, Any]:
        """config.json as the runtime is to read it: with this group's path, and without the limits that are ours.

        A runtime that found them there would write them again, with its own idea of how v1 values become v2's.
        """
        if self.path and (raw.get("linux") or {}).get("cgroupsPath") != self.path:
            raw = with_cgroups_path(raw, self.path)
        return with_devices_only(raw) if self.ours else raw

    def create(self, resources: dict[str, Any]) -> None:
        """The group exists with these limits, if it is ours to make.

        Raises:
            FailedPrecondition: no controller for a limit, or a group above that can have none below it.
            InvalidArgument: a limit is not valid.
            ShimError: the kernel refused; nothing is left.
        """
        limited = {key: value for key, value in resources.items() if key != "devices" and value}
        if self.ours:
            writes = plan(resources)
            self._group = Group.create(self._shop.hierarchy, self.path, controllers_of(writes))
            self._group.apply(writes)
        elif limited:
            _log.info(
                "limits on %s for container %s go to the OCI runtime: %s",
                ", ".join(sorted(limited)),
                self._id,
                self._shop.hierarchy.describe(),
            )

    def attach(self, pid: int, on_oom: Callable[[], None]) -> None:
        """Look where the created init is, and call ``on_oom`` for every out-of-memory kill from now on."""
        self._on_oom = on_oom
        if not self.ours:
            with suppress(NotFound):
                self._group = group_of(pid, self._shop.hierarchy)
        if self._group is not None:
            self._watched = self._shop.oom.add(self._id, self._group, self._oom)

    def oom_killed(self) -> bool:
        """Whether the kernel killed for want of memory in here; read for the last time, and the watch ends."""
        if not self._watched:
            return False
        self._watched = False
        kills = self._shop.oom.remove(self._id)
        if kills > self._kills:
            self._oom(kills - self._kills)
        return kills > 0

    def pids(self) -> list[int]:
        """The processes in it; empty when there is no group of its own."""
        return self._group.pids() if self._group is not None else []

    def kill_all(self, number: int) -> bool:
        """Every process in it was sent the signal; False when there is no group to look into."""
        if self._group is None:
            return False
        if number == signal.SIGKILL:
            self._group.kill()
            return True
        for pid in self._group.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return True

    def thaw(self) -> None:
        """Its processes are not frozen any more."""
        if self._group is not None:
            self._group.thaw()

    def apply(self, resources: dict[str, Any]) -> bool:
        """The limits hold from now on; False when the runtime has to set them."""
        if self.ours and isinstance(self._group, Group):
            self._group.apply(plan(resources))
            return True
        return False

    def statistics(self) -> Stats:
        """What it has used.

        Raises:
            NotFound: there is no group.
        """
        if self._group is None:
            raise NotFound(f"cgroup of container {self._id} does not exist")
        if self._meter is None:
            self._meter = Meter(self._group)
        return self._meter.read()

    async def clear(self) -> None:
        """No process is in it any more; what was left is killed.

        Raises:
            DeadlineExceeded: something does not die.
        """
        if not (left := self.pids()):
            return
        _log.warning("container %s has ended and left processes %s; killing them", self._id, left[:10])
        self.kill_all(signal.SIGKILL)
        try:
            async with asyncio.timeout(_REMOVE_S):
                # A v1 group tells nobody that it is empty.
                while self.pids():  # noqa: ASYNC110 - see above
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise DeadlineExceeded(
                f"processes {self.pids()[:10]} of container {self._id} do not die"
            ) from None

    async def remove(self) -> None:
        """The group is gone, if it was ours; what still ran in it is killed.

        Raises:
            DeadlineExceeded: something in it does not die.
        """
        self.oom_killed()
        if self._meter is not None:
            self._meter.close()
            self._meter = None
        if self.ours and isinstance(self._group, Group):
            await self._group.aremove(_REMOVE_S)
        self._group = None

    async def unmake(self) -> None:
        """As ``remove``, after a create that failed, and also where the runtime makes the group: it has forgotten it then."""
        await self.remove()
        if not self.ours and self.path.startswith("/"):
            await remove_v1_groups(self.path, _REMOVE_S)

    def describe(self) -> dict[str, Any]:
        """Mode and path, for whoever asks the shim."""
        return {
            "mode": self._shop.hierarchy.mode,
            "path": self.path,
            "limits": "shim" if self.ours else "runtime",
        }

    def _oom(self, kills: int) -> None:
        self._kills += kills
        _log.warning("container %s: out of memory, %d process(es) killed", self._id, kills)
        self._on_oom()


def _distinct(state_root: str, container_id: str) -> str:
    """A name that no container of another state root has; ids are unique in one only."""
    if state_root == _DEFAULT_STATE_ROOT:
        return container_id
    return f"{hashlib.sha256(os.fsencode(state_root)).hexdigest()[:8]}-{container_id}"[:255]
