"""The interfaces and routes of a network namespace, changed while its processes run.

Every change is a transaction: when a step fails, what was done before it is undone, the last first. Two that change one
namespace at once are kept apart by the kernel's names and route keys alone: who is second is told that it exists.

An interface is made in the namespace under its name at once, not in the host's and then moved: there it could meet a
namesake. A physical one keeps its way back in its alias (``ocishim:<name on the host>:<mtu>``), which outlives us.

Source: ip-link(8), ip-route(8), veth(4), network_namespaces(7).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, from_os_error
from shim.linux.fd import OwnedFd
from shim.linux.namespaces import CLONE_NEWNET, apart, setns
from shim.linux.tuntap import make_tap
from shim.net.interface import MODES
from shim.net.rtnl import Rtnl

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from shim.net.interface import Interface, InterfaceConfig
    from shim.net.route import Route
    from shim.net.rtnl import Link

__all__ = ["NetworkNamespace"]

_ALIAS = "ocishim"

_T = TypeVar("_T")


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, what) from error


def _open(path: str) -> OwnedFd:
    with _told("network namespace"):
        return OwnedFd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


async def _whole(change: Coroutine[None, None, _T]) -> _T:
    # The kernel does what it was asked while we wait for its answer: cancelled in between, we would not know what to undo.
    task = asyncio.ensure_future(change)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class NetworkNamespace:
    """One network namespace and the host's beside it, both open until the end of ``async with``."""

    def __init__(self, path: str, host: str = "/proc/self/ns/net") -> None:
        """``path``: its file, ``/proc/<pid>/ns/net`` or where it is mounted; ``host``: that of the host's."""
        self._stack = AsyncExitStack()
        self._path = path
        self._host_path = host

    async def __aenter__(self) -> Self:
        """Open.

        Raises:
            NotFound: one of the two does not exist.
            ShimError: it cannot be entered, or is no network namespace.
        """
        async with AsyncExitStack() as stack:
            self._fd = stack.enter_context(_open(self._path))
            self._host_fd = stack.enter_context(_open(self._host_path))
            with _told(f"network namespace {self._path}"):
                self._inside = await stack.enter_async_context(Rtnl(self._fd.fileno()))
                self._host = await stack.enter_async_context(Rtnl(self._host_fd.fileno()))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def interfaces(self) -> list[Interface]:
        """All of them, the loopback too."""
        with _told("interfaces cannot be listed"):
            return await self._inside.interfaces()

    async def raise_loopback(self) -> None:
        """The loopback is up, which in a new namespace it is not.

        Raises:
            ShimError: the kernel refuses.
        """
        with _told("the loopback cannot be brought up"):
            await self._inside.set_link((await self._existing(self._inside, "lo")).index, state="up")

    async def add_interface(self, config: InterfaceConfig) -> Interface:
        """The interface is up and has its addresses; returns it as the kernel has it. Cancelled, it is added first.

        Raises:
            AlreadyExists: its name is taken, here or at its other end.
            NotFound: the bridge, the parent or the peer's namespace does not exist.
            ShimError: the kernel refuses; nothing is left of it.
        """
        with _told(f"{config.kind} interface {config.name} cannot be added"):
            return await _whole(self._add(config))

    async def _add(self, config: InterfaceConfig) -> Interface:
        async with AsyncExitStack() as undo:
            if await self._inside.find(config.name) is not None:
                raise AlreadyExists(f"interface {config.name} exists in the namespace already")
            await self._make(config, undo)
            index = (await self._existing(self._inside, config.name)).index
            for address in config.addresses:
                await self._inside.add_address(index, address)
            await self._inside.set_link(index, state="up")
            found = await self.interfaces()
            undo.pop_all()
        return next(interface for interface in found if interface.name == config.name)

    async def remove_interface(self, *, mac: str = "", name: str = "") -> bool:
        """No interface with that ``mac``, that ``name``, or both, is there; a physical one is the host's again.

        Returns whether there was one. Right when it is done again.

        Raises:
            InvalidArgument: neither is given.
            FailedPrecondition: several have that mac, as those of one ipvlan parent do; or it is the loopback.
        """
        if not mac and not name:
            raise InvalidArgument("an interface is removed by its mac or its name; none is given")
        with _told(f"interface {name or mac} cannot be removed"):
            links = [
                link
                for link in await self._inside.links()
                if mac.lower() in {"", link.mac} and name in {"", link.name}
            ]
            if len(links) > 1:
                names = ", ".join(link.name for link in links)
                raise FailedPrecondition(f"{names} have the mac {mac}: give the name")
            for link in links:
                await _whole(self._remove(link))
        return bool(links)

    async def routes(self) -> list[Route]:
        """The unicast routes of the main table, of IPv4 and IPv6, those that the kernel made too."""
        with _told("routes cannot be listed"):
            return [route for route, _ in await self._inside.routes()]

    async def replace_routes(self, routes: Sequence[Route]) -> list[Route]:
        """The main table has ``routes``, and besides them only what the kernel made for addresses; returns all.

        Cancelled, it is done first. Those without a gateway are added first, so that gateways can be reached.

        Raises:
            InvalidArgument: a route is given twice, or its gateway cannot be reached.
            ShimError: the kernel refuses one; the table is as it was.
        """
        return await _whole(self._replace(routes))

    async def _replace(self, routes: Sequence[Route]) -> list[Route]:
        found = [route for route, by_kernel in await self._inside.routes() if not by_kernel]
        wanted = sorted(routes, key=lambda route: route.gateway is not None)
        async with AsyncExitStack() as undo:
            # Those through a gateway first, as nothing else depends on them.
            for route in sorted(found, key=lambda route: route.gateway is None):
                if not any(new.same(route) for new in wanted):
                    await self._delete_route(route, undo)
            for route in wanted:
                if not any(route.same(old) for old in found):
                    await self._add_route(route, undo)
            table = await self.routes()
            undo.pop_all()
        return table

    async def _delete_route(self, route: Route, undo: AsyncExitStack) -> None:
        with _told(f"route {route} cannot be deleted"):
            await self._inside.delete_route(route)
        undo.push_async_callback(self._inside.add_route, route)

    async def _add_route(self, route: Route, undo: AsyncExitStack) -> None:
        with _told(f"route {route} cannot be added"):
            await self._inside.add_route(route)
        undo.push_async_callback(self._inside.delete_route, route)

    async def _make(self, config: InterfaceConfig, undo: AsyncExitStack) -> None:
        made = {"ifname": config.name, **_given(address=config.mac, mtu=config.mtu)}
        if config.kind == "veth":
            await self._make_veth(config, made, undo)
        elif config.kind == "tap":
            await self._make_tap(config, undo)
        elif config.kind == "physical":
            await self._move_in(config, undo)
        elif config.kind == "dummy":
            await self._inside.add_link(kind="dummy", **made)
            undo.push_async_callback(self._delete, config.name)
        else:
            parent = await self._existing(self._host, config.parent)
            await self._host.add_link(
                kind=config.kind, link=parent.index, net_ns_fd=self._fd.fileno(), **_details(config), **made
            )
            undo.push_async_callback(self._delete, config.name)

    async def _make_veth(self, config: InterfaceConfig, made: dict[str, Any], undo: AsyncExitStack) -> None:
        master = (await self._existing(self._host, config.bridge)).index if config.bridge else 0
        peer_name = config.peer_name or self._peer_name(config.name)
        with _open(config.peer_namespace) if config.peer_namespace else self._host_fd.dup() as other:
            async with Rtnl(other.fileno()) as outside:
                await outside.add_link(
                    kind="veth",
                    ifname=peer_name,
                    peer={**made, "net_ns_fd": self._fd.fileno()},
                    **_given(mtu=config.mtu),
                )
                undo.push_async_callback(self._delete, config.name)
                peer = await self._existing(outside, peer_name)
                await outside.set_link(peer.index, state="up", **_given(master=master))

    async def _make_tap(self, config: InterfaceConfig, undo: AsyncExitStack) -> None:
        fd = self._fd.fileno()

        def make() -> None:
            setns(fd, CLONE_NEWNET)
            make_tap(config.name)

        apart(make)
        undo.push_async_callback(self._delete, config.name)
        if attributes := _given(address=config.mac, mtu=config.mtu):
            link = await self._existing(self._inside, config.name)
            await self._inside.set_link(link.index, **attributes)

    async def _move_in(self, config: InterfaceConfig, undo: AsyncExitStack) -> None:
        parent = await self._existing(self._host, config.parent)
        if parent.kind == "loopback":
            raise FailedPrecondition("the loopback of the host stays where it is")
        alias = f"{_ALIAS}:{parent.name}:{parent.mtu}"
        await self._host.set_link(parent.index, ifalias=alias)
        undo.push_async_callback(self._host.set_link, parent.index, ifalias=parent.alias)
        await self._host.set_link(parent.index, net_ns_fd=self._fd.fileno(), ifname=config.name)
        undo.push_async_callback(self._move_back, config.name)
        if config.mtu:
            link = await self._existing(self._inside, config.name)
            await self._inside.set_link(link.index, mtu=config.mtu)

    async def _move_back(self, name: str) -> None:
        link = await self._existing(self._inside, name)
        _, host_name, mtu = link.alias.split(":")
        await self._inside.set_link(link.index, net_ns_fd=self._host_fd.fileno(), ifname=host_name)
        back = await self._existing(self._host, host_name)
        await self._host.set_link(back.index, mtu=int(mtu), ifalias="")

    async def _remove(self, link: Link) -> None:
        if link.kind == "loopback":
            raise FailedPrecondition("the loopback stays where it is")
        if link.alias.startswith(f"{_ALIAS}:"):
            await self._move_back(link.name)
        else:
            await self._inside.delete_link(link.index)

    async def _delete(self, name: str) -> None:
        await self._inside.delete_link((await self._existing(self._inside, name)).index)

    async def _existing(self, rtnl: Rtnl, name: str) -> Link:
        link = await rtnl.find(name)
        if link is None:
            raise NotFound(
                f"there is no interface {name} {'in the namespace' if rtnl is self._inside else 'outside'}"
            )
        return link

    def _peer_name(self, name: str) -> str:
        # The inode names the namespace as long as the veth exists.
        inode = os.fstat(self._fd.fileno()).st_ino
        return "oc" + hashlib.sha256(f"{inode}/{name}".encode()).hexdigest()[:12]


def _given(**attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value}


def _details(config: InterfaceConfig) -> dict[str, Any]:
    if config.kind == "vlan":
        return {"vlan_id": config.vlan}
    mode = config.mode or MODES[config.kind][0]
    # pyroute2 has the names of macvlan's modes only; ipvlan's are numbered in this order.
    return {f"{config.kind}_mode": MODES["ipvlan"].index(mode) if config.kind == "ipvlan" else mode}
