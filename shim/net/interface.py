"""A network interface: as it is asked for, and as it is found.

Source: ip-link(8), ip-address(8); Kata's Interface (its LinkType is ``kind`` here, its HwAddr ``mac``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING, Any, TypeAlias

from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["KINDS", "MODES", "Address", "Interface", "InterfaceConfig", "parse_address", "validate_name"]

Address: TypeAlias = IPv4Interface | IPv6Interface

MODES: Mapping[str, tuple[str, ...]] = {
    "macvlan": ("bridge", "private", "vepa", "passthru"),
    "ipvlan": ("l2", "l3", "l3s"),
}
"""What ``mode`` can be; the first is what an empty one means."""

# What each kind needs, and what else it may have, besides name, mac, mtu and addresses.
_MEMBERS: Mapping[str, tuple[set[str], set[str]]] = {
    "veth": (set(), {"bridge", "peer_namespace", "peer_name"}),
    "macvlan": ({"parent"}, {"mode"}),
    "ipvlan": ({"parent"}, {"mode"}),
    "vlan": ({"parent", "vlan"}, set()),
    "tap": (set(), set()),
    "dummy": (set(), set()),
    "physical": ({"parent"}, set()),
}
KINDS = tuple(_MEMBERS)

_OPTIONAL = ("bridge", "peer_namespace", "peer_name", "parent", "vlan", "mode")
_IFNAMSIZ = 16
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_MULTICAST = 0x01
# ipvlan has its parent's; what a physical one had must come back with it.
_OWN_MAC_NEVER = ("ipvlan", "physical")


def validate_name(name: str, what: str = "interface name") -> str:
    """``name``, which the kernel would take for an interface (dev_valid_name).

    Raises:
        InvalidArgument: it would not.
    """
    size = len(name.encode("utf-8", "surrogateescape"))
    if not 0 < size < _IFNAMSIZ or name in {".", ".."} or re.search(r"[/:\s\0%]", name):
        raise InvalidArgument(f"{what} {name!r}: use 1 to 15 bytes without blanks, '/', ':' and '%'")
    return name


def parse_address(text: str) -> Address:
    """``10.0.0.2/24`` or ``fd00::2/64``.

    Raises:
        InvalidArgument: it is no address, or has no prefix length.
    """
    if "/" not in text:
        raise InvalidArgument(f"address {text!r} has no prefix length; write it as 10.0.0.2/24")
    try:
        return ip_interface(text)
    except ValueError as error:
        raise InvalidArgument(f"address {text!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """An interface to be added. What is empty or 0 is left to the kernel.

    Raises:
        InvalidArgument: a value can never work, or means nothing for its kind.
    """

    name: str
    """Inside the namespace."""
    kind: str = "veth"
    """One of ``KINDS``. physical: a NIC of the host is moved in, and goes back when it is removed."""
    mac: str = ""
    mtu: int = 0
    addresses: tuple[Address, ...] = ()
    bridge: str = ""
    """veth: the bridge of the host that the other end is a port of."""
    peer_namespace: str = ""
    """veth: the file of the network namespace in which the other end is; empty: the host's."""
    peer_name: str = ""
    """veth: the name of the other end; empty: one made of the first one's."""
    parent: str = ""
    """macvlan, ipvlan, vlan, physical: the interface of the host."""
    vlan: int = 0
    """vlan: the id, 1 to 4094."""
    mode: str = ""
    """macvlan and ipvlan: one of ``MODES``."""

    def __post_init__(self) -> None:
        if self.kind not in _MEMBERS:
            raise InvalidArgument(f"interface kind {self.kind!r}: use one of {', '.join(KINDS)}")
        validate_name(self.name)
        for member in ("bridge", "peer_name", "parent"):
            if value := getattr(self, member):
                validate_name(value, member)
        self._check_members()
        self._check_values()

    def _check_members(self) -> None:
        needed, allowed = _MEMBERS[self.kind]
        given = {member for member in _OPTIONAL if getattr(self, member)}
        if missing := needed - given:
            raise InvalidArgument(f"a {self.kind} interface needs {', '.join(sorted(missing))}")
        if useless := given - needed - allowed:
            raise InvalidArgument(f"a {self.kind} interface has no {', '.join(sorted(useless))}")
        if self.bridge and self.peer_namespace:
            raise InvalidArgument(
                "the other end of a veth is at a bridge of the host or in a namespace, not both"
            )
        if self.mac and self.kind in _OWN_MAC_NEVER:
            raise InvalidArgument(
                f"a {self.kind} interface keeps the address that it has, {self.mac} is refused"
            )

    def _check_values(self) -> None:
        if self.mac and (not _MAC.fullmatch(self.mac) or int(self.mac[:2], 16) & _MULTICAST):
            raise InvalidArgument(
                f"mac {self.mac!r} is no address of one interface; write it as 02:00:00:00:00:01"
            )
        if self.mtu and not 68 <= self.mtu <= 65535:
            raise InvalidArgument(f"mtu {self.mtu}: use 68 to 65535, or 0 for the kernel's")
        if self.vlan and not 1 <= self.vlan <= 4094:
            raise InvalidArgument(f"vlan {self.vlan}: use 1 to 4094")
        if self.mode and self.mode not in MODES.get(self.kind, ()):
            raise InvalidArgument(f"mode {self.mode!r}: use one of {', '.join(MODES[self.kind])}")
        if len(set(self.addresses)) != len(self.addresses):
            raise InvalidArgument(f"an address is given twice: {_joined(self.addresses)}")


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that was found in a namespace."""

    name: str
    kind: str
    """As the kernel calls it: ``veth``, ``tun``, …; physical ones and the loopback have none, here ``physical`` and ``loopback``."""
    mac: str
    mtu: int
    up: bool
    addresses: tuple[Address, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "mac": self.mac,
            "mtu": self.mtu,
            "up": self.up,
            "addresses": [str(address) for address in self.addresses],
        }


def _joined(addresses: Iterable[Address]) -> str:
    return ", ".join(map(str, addresses))
