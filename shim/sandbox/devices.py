"""Directories, files and devices of the host, added to a container while it runs and taken away again.

What was added is written down beside the container before it is done, so that a process that dies half way leaves
nothing that the next one does not find. All calls block; two processes that change one container take turns.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from shim.cgroup.device_rules import DeviceRule, DeviceRules
from shim.device import Inside, Node, bind, make_node, read_node, remove_node, unbind
from shim.errors import AlreadyExists, InvalidArgument, NotFound
from shim.linux.locks import locked_directory
from shim.store import records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shim.cgroup.hierarchy import Hierarchy

__all__ = ["Device", "DeviceConfig", "Devices"]

_RECORD = "devices.json"
_MODE = 0o7777


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """What is to be added."""

    source: str
    """A directory, a file, or the node of a block or character device on the host."""
    target: str = ""
    """Where the container has it; empty: at the path that it has on the host."""
    read_only: bool = False
    access: str = "rwm"
    """Of a device: what the container may do, r(ead), w(rite) and m(knod). ``read_only`` takes the w away."""


@dataclass(frozen=True, slots=True)
class Device:
    """What was added."""

    source: str
    target: str
    kind: str
    """``mount``, ``c`` or ``b``."""
    read_only: bool = False
    major: int = 0
    minor: int = 0
    access: str = ""
    bound: bool = False
    """Whether it is mounted; a device of a container with users of its own is, since it could not use a node of its own."""
    ruled: bool = False
    """Whether the cgroup was told to allow it."""
    made: tuple[str, ...] = ()
    """Directories and files that were made in the container for it."""

    @property
    def rule(self) -> DeviceRule | None:
        """What the cgroup has to allow; None for what is no device."""
        return None if self.kind == "mount" else DeviceRule(self.kind, self.major, self.minor, self.access)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        members: dict[str, Any] = {"target": self.target, "source": self.source, "kind": self.kind}
        if self.kind == "mount":
            return {**members, "read_only": self.read_only}
        return {**members, "major": self.major, "minor": self.minor, "access": self.access}


class Devices:
    """Those of one container, whose init is ``pid`` and whose record is in ``directory``."""

    def __init__(self, directory: Path, pid: int, hierarchy: Hierarchy) -> None:
        self._directory = directory
        self._pid = pid
        self._hierarchy = hierarchy

    def all(self) -> list[Device]:
        """What was added, in that order."""
        return self._load()

    def add(self, config: DeviceConfig) -> Device:
        """The container has it.

        Raises:
            NotFound: there is no such thing on the host.
            AlreadyExists: something was added at that path.
            InvalidArgument: a value can never work.
            ShimError: the kernel refuses; nothing is left.
        """
        device = _device(config, own_users=self._own_users())
        with self._changing() as devices, Inside(self._pid) as inside, ExitStack() as undo:
            if any(device.target == old.target for old in devices):
                raise AlreadyExists(f"{device.target} was added to the container already; remove it first")
            undo.callback(self._save, list(devices))
            self._save([*devices, device])
            device = self._allow(device, undo)
            device = replace(device, made=tuple(_place(inside, device)))
            undo.callback(_displace, inside, device)
            self._save([*devices, device])
            undo.pop_all()
        return device

    def remove(self, target: str) -> bool:
        """Nothing that was added is at ``target``; returns whether something was. Who has it open keeps it.

        Raises:
            ShimError: the kernel refuses; it can be tried again.
        """
        with self._changing() as devices, Inside(self._pid) as inside:
            found = [device for device in devices if device.target == target]
            for device in found:
                _displace(inside, device)
                self._save(self._deny(device, [other for other in devices if other != device]))
        return bool(found)

    def _allow(self, device: Device, undo: ExitStack) -> Device:
        rules = DeviceRules.of(self._pid, self._hierarchy)
        if device.rule is None or rules is None or not rules.allow(device.rule):
            return device
        undo.callback(rules.deny, device.rule)
        return replace(device, ruled=True)

    def _deny(self, device: Device, others: list[Device]) -> list[Device]:
        """``others``; one that is the same device under another name is who keeps it allowed now."""
        rules = DeviceRules.of(self._pid, self._hierarchy)
        if device.rule is None or rules is None or not device.ruled:
            return others
        heirs = [other for other in others if other.rule == device.rule]
        if not heirs:
            rules.deny(device.rule)
        return [replace(other, ruled=True) if other in heirs[:1] else other for other in others]

    def _own_users(self) -> bool:
        try:
            theirs = os.stat(f"/proc/{self._pid}/ns/user")
        except FileNotFoundError:
            raise NotFound(f"process {self._pid} has ended") from None
        return not os.path.samestat(theirs, os.stat("/proc/self/ns/user"))

    @contextmanager
    def _changing(self) -> Iterator[list[Device]]:
        with locked_directory(str(self._directory)):
            yield self._load()

    def _load(self) -> list[Device]:
        try:
            found = records.load(self._directory / _RECORD)["devices"]
        except NotFound:
            return []
        return [Device(**{**members, "made": tuple(members["made"])}) for members in found]

    def _save(self, devices: list[Device]) -> None:
        # What a container was given is void after a reboot, as the container is.
        records.save(self._directory / _RECORD, {"devices": [asdict(each) for each in devices]}, synced=False)


def _device(config: DeviceConfig, *, own_users: bool) -> Device:
    if not os.path.isabs(config.source):
        raise InvalidArgument(f"{config.source!r} is no absolute path")
    target = config.target or config.source
    node = read_node(config.source)
    if node is None:
        return Device(config.source, target, "mount", config.read_only, bound=True)
    access = config.access.replace("w", "") if config.read_only else config.access
    rule = DeviceRule(node.kind, node.major, node.minor, access)
    return Device(
        config.source,
        target,
        node.kind,
        config.read_only,
        rule.major,
        rule.minor,
        rule.access,
        bound=own_users,
    )


def _place(inside: Inside, device: Device) -> list[str]:
    if device.bound:
        devices = device.kind != "mount"
        return bind(inside, device.source, device.target, read_only=device.read_only, devices=devices)
    host = os.stat(device.source)
    node = Node(device.kind, device.major, device.minor)
    return make_node(inside, device.target, node, mode=host.st_mode & _MODE, uid=host.st_uid, gid=host.st_gid)


def _displace(inside: Inside, device: Device) -> None:
    if device.bound:
        unbind(inside, device.target, list(device.made))
    else:
        remove_node(inside, device.target, Node(device.kind, device.major, device.minor), list(device.made))
