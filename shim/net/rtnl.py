"""rtnetlink of one network namespace: links, addresses, routes. The only importer of pyroute2.

A netlink socket belongs for ever to the namespace in which it was made, so one made by a thread that has entered the
namespace serves the whole process. pyroute2 would fork a helper for that, and a process with an event loop and threads
is not to be forked.

Source: rtnetlink(7), netlink(7), network_namespaces(7).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Self

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from shim.linux.namespaces import CLONE_NEWNET, apart, setns
from shim.net.interface import Address, Interface
from shim.net.route import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Link", "Rtnl"]

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_MAIN_TABLE = 254
_UNICAST = 1
_BY_KERNEL = 2
_BY_ADMINISTRATOR = 4
# Duplicate address detection would keep an IPv6 address from being used for a second; who adds one knows that it is free.
_IFA_F_NODAD = 0x02


@contextmanager
def _os_errors() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        number, *text = error.args
        raise OSError(number, text[0] if text and text[0] else os.strerror(number)) from error


class Link:
    """A link as the kernel told of it."""

    __slots__ = ("alias", "index", "kind", "mac", "mtu", "name", "up")

    def __init__(self, message: Any) -> None:
        self.index: int = message["index"]
        self.name: str = message.get("ifname")
        self.mac: str = message.get("address") or ""
        self.mtu: int = message.get("mtu") or 0
        self.alias: str = message.get("ifalias") or ""
        self.up = bool(message["flags"] & _IFF_UP)
        self.kind: str = message.get(("linkinfo", "kind")) or (
            "loopback" if message["flags"] & _IFF_LOOPBACK else "physical"
        )


class Rtnl:
    """A connection, to be closed. Methods raise OSError with the kernel's own text where it has one."""

    def __init__(self, namespace_fd: int) -> None:
        """``namespace_fd`` (not owned) shows the namespace."""

        def make_socket() -> int:
            setns(namespace_fd, CLONE_NEWNET)
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
            return socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE).detach()

        self._make_socket = make_socket

    async def __aenter__(self) -> Self:
        self._route = AsyncIPRoute(fileno=apart(self._make_socket), groups=0, ext_ack=True)
        # It takes ownership of the descriptor at its first use, which may never come.
        await self._route.setup_endpoint()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._route.close()
        # asyncio closes the socket in its next turn.
        await asyncio.sleep(0)

    async def links(self) -> list[Link]:
        """All of them."""
        with _os_errors():
            return [Link(message) async for message in await self._route.link("dump")]

    async def find(self, name: str) -> Link | None:
        """The link of that name; one question, where a list would be parsed whole."""
        try:
            with _os_errors():
                for message in await self._route.link("get", ifname=name):
                    return Link(message)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
        return None

    async def add_link(self, **attributes: Any) -> None:
        """A link as ip-link(8) makes it, in this namespace unless ``net_ns_fd`` says which."""
        with _os_errors():
            await self._route.link("add", **attributes)

    async def set_link(self, index: int, **attributes: Any) -> None:
        """The link has these attributes; ``net_ns_fd`` moves it."""
        with _os_errors():
            await self._route.link("set", index=index, **attributes)

    async def delete_link(self, index: int) -> None:
        """It is gone, and with a veth its other end."""
        with _os_errors():
            await self._route.link("del", index=index)

    async def add_address(self, index: int, address: Address) -> None:
        """The link has the address, ready to use."""
        with _os_errors():
            await self._route.addr(
                "add",
                index=index,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                family=_FAMILIES[address.version],
                flags=_IFA_F_NODAD if address.version == 6 else 0,
            )

    async def interfaces(self) -> list[Interface]:
        """All links with their addresses, in the kernel's order."""
        addresses: dict[int, list[Address]] = {}
        with _os_errors():
            async for message in await self._route.addr("dump"):
                # Of a point-to-point link IFA_ADDRESS is the other side's.
                ip = message.get("local") or message.get("address")
                found = ip_interface(f"{ip}/{message['prefixlen']}")
                addresses.setdefault(message["index"], []).append(found)
        return [
            Interface(link.name, link.kind, link.mac, link.mtu, link.up, tuple(addresses.get(link.index, ())))
            for link in await self.links()
        ]

    async def routes(self) -> list[tuple[Route, bool]]:
        """The unicast routes of the main table that have one next hop, and of each whether the kernel made it."""
        names = {link.index: link.name for link in await self.links()}
        with _os_errors():
            messages = [
                message
                for family in _FAMILIES.values()
                async for message in await self._route.get_routes(family=family, table=_MAIN_TABLE)
            ]
        return [
            (_route(message, names), message["proto"] == _BY_KERNEL)
            for message in messages
            if message["type"] == _UNICAST and message.get("oif") is not None
        ]

    async def add_route(self, route: Route) -> None:
        """The route is there.

        Raises:
            OSError: EEXIST, one to the same destination with the same metric is.
        """
        await self._change_route("add", route)

    async def delete_route(self, route: Route) -> None:
        """The route is gone."""
        await self._change_route("del", route)

    async def _change_route(self, command: str, route: Route) -> None:
        attributes: dict[str, Any] = {
            "dst": str(route.destination),
            "family": _FAMILIES[route.destination.version],
            "table": _MAIN_TABLE,
            "proto": _BY_ADMINISTRATOR,
            "scope": route.effective_scope,
        }
        if route.effective_metric:
            attributes["priority"] = route.effective_metric
        if route.gateway is not None:
            attributes["gateway"] = str(route.gateway)
        if route.source is not None:
            attributes["prefsrc"] = str(route.source)
        if route.device:
            if (link := await self.find(route.device)) is None:
                raise FileNotFoundError(errno.ENOENT, f"there is no interface {route.device}")
            attributes["oif"] = link.index
        with _os_errors():
            await self._route.route(command, **attributes)


def _route(message: Any, names: dict[int, str]) -> Route:
    everything = "::" if message["family"] == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - no address to listen on
    gateway, source = message.get("gateway"), message.get("prefsrc")
    return Route(
        destination=ip_network(f"{message.get('dst') or everything}/{message['dst_len']}"),
        gateway=ip_address(gateway) if gateway else None,
        device=names.get(message.get("oif"), ""),
        source=ip_address(source) if source else None,
        scope=message["scope"],
        metric=message.get("priority") or 0,
    )
