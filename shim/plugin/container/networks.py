"""The networks that a plugin can be connected to: tables ``[networks.NAME]`` of the configuration, and who has which address.

    [networks.plugins]
    kind = "bridge"             # or macvlan, ipvlan, vlan, with parent, mode and vlan as interfaces have them
    bridge = "br-plugins"       # it exists already
    subnet = "10.5.0.0/24"
    gateway = "10.5.0.1"        # empty: no default route
    mtu = 1400

Source: Docker's networks and endpoints, of which this is what a plugin needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from ipaddress import ip_interface, ip_network
from itertools import islice
from typing import TYPE_CHECKING, Any

from shim.errors import InvalidArgument, NotFound
from shim.net import InterfaceConfig
from shim.net.route import parse_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shim.net.route import Host, Network

__all__ = ["NamedNetwork"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedNetwork:
    """One of the tables.

    Raises:
        InvalidArgument: it can never work.
    """

    name: str
    subnet: str
    kind: str = "bridge"
    bridge: str = ""
    parent: str = ""
    mode: str = ""
    vlan: int = 0
    gateway: str = ""
    mtu: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidArgument(f"network {self.name!r}: use letters, digits, '_', '-' and '.', 64 at most")
        if (self.kind == "bridge") != bool(self.bridge):
            raise InvalidArgument(
                f"network {self.name}: kind bridge, and no other, needs the name of a bridge"
            )
        if not self.subnet:
            raise InvalidArgument(f"network {self.name} has no subnet")
        if (gateway := self.router) is not None and gateway not in self.range:
            raise InvalidArgument(f"network {self.name}: gateway {gateway} is not in {self.range}")
        # What an interface cannot be is found out now.
        self.interface("eth0", None)

    @classmethod
    def of(cls, name: str, tables: Mapping[str, Any]) -> NamedNetwork:
        """The network ``name`` of ``tables``.

        Raises:
            NotFound: there is none.
            InvalidArgument: it is not valid.
        """
        if (table := tables.get(name)) is None:
            known = ", ".join(sorted(tables)) or "none"
            raise NotFound(
                f"network {name!r} is not in the configuration; [networks.NAME] there are: {known}"
            )
        if not isinstance(table, dict):
            raise InvalidArgument(f"network {name} = {table!r} is no table; write [networks.{name}]")
        kinds = {each.name: int if each.name in {"vlan", "mtu"} else str for each in fields(cls)}
        for key, value in table.items():
            if key not in kinds or key == "name":
                known = ", ".join(sorted(kinds.keys() - {"name"}))
                raise InvalidArgument(f"network {name}: unknown key {key!r}; known keys: {known}")
            if type(value) is not kinds[key]:
                raise InvalidArgument(
                    f"network {name}: {key} = {value!r} is not a valid {kinds[key].__name__}"
                )
        return cls(name, **{"subnet": "", **table})

    @property
    def range(self) -> Network:
        """The addresses in it."""
        try:
            return ip_network(self.subnet)
        except ValueError as error:
            raise InvalidArgument(f"network {self.name}: subnet: {error}") from error

    @property
    def router(self) -> Host | None:
        """Its gateway; None where there is none."""
        return parse_host(self.gateway, f"network {self.name}: gateway") if self.gateway else None

    def candidates(self) -> Iterator[Host]:
        """The addresses that plugins can have, the lowest first; the first of all is the host's by custom."""
        hosts: Iterator[Host] = iter(self.range.hosts())
        return (host for host in islice(hosts, 1, None) if host != self.router)

    def interface(self, name: str, host: Host | None, mac: str = "") -> InterfaceConfig:
        """A plugin's end of it."""
        addresses = (ip_interface(f"{host}/{self.range.prefixlen}"),) if host is not None else ()
        return InterfaceConfig(
            name,
            kind="veth" if self.kind == "bridge" else self.kind,
            mac=mac.lower(),
            mtu=self.mtu,
            addresses=addresses,
            bridge=self.bridge,
            parent=self.parent,
            mode=self.mode,
            vlan=self.vlan,
        )
