"""Interfaces and routes of real network namespaces; one plays the host, so that the machine's stays as it is."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import suppress
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from pyroute2 import AsyncIPRoute

from shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ShimError
from shim.linux.namespaces import CLONE_NEWNET, setns
from shim.net import InterfaceConfig, NetworkNamespace, Route
from shim.net.rtnl import Rtnl

pytestmark = pytest.mark.root

LINKS = pytest.mark.links

MAC = "02:00:00:00:00:07"


async def names(netns) -> list[str]:
    async with Rtnl(netns.fd.fileno()) as rtnl:
        return sorted(link.name for link in await rtnl.links() if link.kind != "loopback")


async def link(netns, name):
    async with Rtnl(netns.fd.fileno()) as rtnl:
        return next(link for link in await rtnl.links() if link.name == name)


async def bring_up(netns, name, *addresses):
    async with Rtnl(netns.fd.fileno()) as rtnl:
        index = next(link.index for link in await rtnl.links() if link.name == name)
        for address in addresses:
            await rtnl.add_address(index, ip_interface(address))
        await rtnl.set_link(index, state="up")


async def add(netns, **attributes):
    async with Rtnl(netns.fd.fileno()) as rtnl:
        await rtnl.add_link(**attributes)


async def add_uplink(netns):
    """A NIC of the host, as far as anybody can tell: not every kernel has dummy ones."""
    await add(netns, kind="veth", ifname="up0", peer={"ifname": "up1"})


def received(netns, at: str, of: str, sender) -> bytes:
    """What arrives at ``at`` in ``netns`` when ``sender`` sends from ``of`` to it."""
    family = socket.AF_INET6 if ":" in at else socket.AF_INET

    def listen():
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((at, 4444))
        sock.settimeout(10)
        return sock

    def send():
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((of, 0))
            sock.sendto(b"hello", (at, 4444))

    with netns.run(listen) as sock:
        sender.run(send)
        return sock.recv(16)


async def test_a_veth_to_a_peer_namespace_carries_both_protocols_at_once(host, inside, netns):
    peer = netns()
    config = InterfaceConfig(
        "eth1",
        mac=MAC,
        mtu=1400,
        addresses=(ip_interface("10.9.0.2/24"), ip_interface("fd09::2/64")),
        peer_namespace=peer.path,
        peer_name="to-eth1",
    )
    async with NetworkNamespace(inside.path, host.path) as namespace:
        found = await namespace.add_interface(config)
        assert (found.name, found.kind, found.mac, found.mtu, found.up) == ("eth1", "veth", MAC, 1400, True)
        assert set(config.addresses) <= set(found.addresses)
        assert await names(host) == []
        async with Rtnl(peer.fd.fileno()) as rtnl:
            index = (await link(peer, "to-eth1")).index
            await rtnl.add_address(index, ip_interface("10.9.0.1/24"))
            await rtnl.add_address(index, ip_interface("fd09::1/64"))
        assert received(peer, "10.9.0.1", "10.9.0.2", inside) == b"hello"
        assert received(inside, "fd09::2", "fd09::1", peer) == b"hello"
        assert await namespace.remove_interface(mac=MAC)
        assert await names(peer) == await names(inside) == []
        assert not await namespace.remove_interface(mac=MAC)


async def test_a_veth_at_a_bridge(host, inside):
    await add(host, kind="bridge", ifname="br0")
    await bring_up(host, "br0", "10.9.1.1/24")
    async with NetworkNamespace(inside.path, host.path) as namespace:
        config = InterfaceConfig("eth0", bridge="br0", addresses=(ip_interface("10.9.1.2/24"),))
        await namespace.add_interface(config)
        ports = [name for name in await names(host) if name != "br0"]
        assert len(ports) == 1
        assert received(host, "10.9.1.1", "10.9.1.2", inside) == b"hello"
        await namespace.remove_interface(name="eth0")
    assert await names(host) == ["br0"]


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "macvlan", "parent": "up0"},
        {"kind": "macvlan", "parent": "up0", "mode": "private"},
        pytest.param({"kind": "ipvlan", "parent": "up0"}, marks=LINKS),
        pytest.param({"kind": "ipvlan", "parent": "up0", "mode": "l3"}, marks=LINKS),
        pytest.param({"kind": "vlan", "parent": "up0", "vlan": 12}, marks=LINKS),
        pytest.param({"kind": "dummy"}, marks=LINKS),
        {"kind": "tap"},
        {"kind": "veth"},
    ],
    ids=lambda members: "-".join(map(str, members.values())),
)
async def test_every_kind_comes_and_goes(host, inside, members):
    await add_uplink(host)
    await bring_up(host, "up0")
    config = InterfaceConfig("net1", mtu=1300, addresses=(ip_interface("10.9.2.2/24"),), **members)
    async with NetworkNamespace(inside.path, host.path) as namespace:
        found = await namespace.add_interface(config)
        assert found.up
        assert found.mtu == 1300
        assert found.kind == {"tap": "tun"}.get(config.kind, config.kind)
        assert found.addresses[0] == ip_interface("10.9.2.2/24")
        assert await namespace.remove_interface(name="net1", mac=found.mac)
    assert await names(inside) == []
    assert await names(host) == ["up0", "up1"]


async def test_a_physical_one_goes_in_and_comes_back(host, inside):
    await add(host, kind="veth", ifname="nic0", mtu=1450, peer={"ifname": "wire"})
    mac = (await link(host, "nic0")).mac
    config = InterfaceConfig(
        "eth5", "physical", parent="nic0", mtu=1200, addresses=(ip_interface("10.9.3.2/24"),)
    )
    async with NetworkNamespace(inside.path, host.path) as namespace:
        found = await namespace.add_interface(config)
        assert (found.mac, found.mtu) == (mac, 1200)
        assert await names(host) == ["wire"]
    async with NetworkNamespace(inside.path, host.path) as again:
        assert await again.remove_interface(mac=mac)
    back = await link(host, "nic0")
    assert (back.mac, back.mtu, back.alias) == (mac, 1450, "")
    assert await names(inside) == []


async def test_what_cannot_be_removed(host, inside):
    async with NetworkNamespace(inside.path, host.path) as namespace:
        with pytest.raises(FailedPrecondition, match="loopback"):
            await namespace.remove_interface(name="lo")
        with pytest.raises(InvalidArgument, match="mac or its name"):
            await namespace.remove_interface()


@LINKS
async def test_of_two_with_one_mac_the_name_is_asked(host, inside):
    await add_uplink(host)
    async with NetworkNamespace(inside.path, host.path) as namespace:
        first = await namespace.add_interface(InterfaceConfig("a", "ipvlan", parent="up0"))
        await namespace.add_interface(InterfaceConfig("b", "ipvlan", parent="up0"))
        with pytest.raises(FailedPrecondition, match=f"a, b have the mac {first.mac}: give the name"):
            await namespace.remove_interface(mac=first.mac)
        assert await namespace.remove_interface(mac=first.mac, name="b")
        assert await names(inside) == ["a"]


@pytest.mark.parametrize(
    ("members", "error", "text"),
    [
        ({"bridge": "no0"}, NotFound, "there is no interface no0 outside"),
        ({"kind": "macvlan", "parent": "no0"}, NotFound, "there is no interface no0 outside"),
        ({"kind": "physical", "parent": "lo"}, FailedPrecondition, "loopback"),
        ({"peer_namespace": "/proc/self/ns/no"}, NotFound, "network namespace /proc/self/ns/no"),
        ({"peer_namespace": "/proc/self/ns/uts"}, InvalidArgument, "veth interface eth1 cannot be added"),
        ({"peer_name": "up0"}, AlreadyExists, "veth interface eth1 cannot be added"),
        ({"kind": "tap", "mtu": 68, "addresses": ("fd00::1/64",)}, ShimError, "eth1 cannot be added"),
    ],
)
async def test_what_cannot_be_added_leaves_nothing(host, inside, members, error, text):
    await add_uplink(host)
    members = {**members, "addresses": tuple(map(ip_interface, members.get("addresses", ())))}
    async with NetworkNamespace(inside.path, host.path) as namespace:
        with pytest.raises(error, match=text):
            await namespace.add_interface(InterfaceConfig("eth1", **members))
    assert await names(inside) == []
    assert await names(host) == ["up0", "up1"]


@pytest.mark.parametrize("kind", ["tap", "veth"])
async def test_a_name_that_is_taken_stays_whose_it_is(host, inside, kind):
    async with NetworkNamespace(inside.path, host.path) as namespace:
        first = await namespace.add_interface(InterfaceConfig("eth1", "tap", mac=MAC))
        with pytest.raises(AlreadyExists, match="interface eth1 exists in the namespace already"):
            await namespace.add_interface(InterfaceConfig("eth1", kind))
        assert first in await namespace.interfaces()


async def test_no_namespace():
    with pytest.raises(NotFound, match="/run/netns/never"):
        async with NetworkNamespace("/run/netns/never"):
            pass
    with pytest.raises(InvalidArgument, match="network namespace /proc/self/ns/uts"):
        async with NetworkNamespace("/proc/self/ns/uts"):
            pass


class Faulty:
    """Fails the n-th request that changes something, of any connection, as the kernel does."""

    def __init__(self, monkeypatch, after: int) -> None:
        self.left = after
        for method in ("link", "addr", "route"):
            monkeypatch.setattr(AsyncIPRoute, method, self.wrapped(getattr(AsyncIPRoute, method)))

    def wrapped(self, original):
        async def method(rtnl, command, *args, **kwargs):
            if command not in {"dump", "get"}:
                self.left -= 1
                if self.left == -1:
                    raise OSError(errno.ENOBUFS, "injected")
            return await original(rtnl, command, *args, **kwargs)

        return method


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "veth", "bridge": "br0", "mtu": 1400},
        {"kind": "macvlan", "parent": "up0"},
        pytest.param({"kind": "vlan", "parent": "up0", "vlan": 3}, marks=LINKS),
        {"kind": "tap", "mtu": 1400},
        pytest.param({"kind": "dummy"}, marks=LINKS),
        {"kind": "physical", "parent": "up0", "mtu": 1400},
    ],
    ids=lambda members: members["kind"],
)
async def test_a_fault_at_any_step_leaves_no_interface(host, inside, members, monkeypatch):
    await add_uplink(host)
    await bring_up(host, "up0")
    await add(host, kind="bridge", ifname="br0")
    config = InterfaceConfig(
        "eth1", addresses=(ip_interface("10.9.4.2/24"), ip_interface("fd09:4::2/64")), **members
    )
    before = (await names(host), await link(host, "up0"))
    steps = 0
    while True:
        with monkeypatch.context() as patch:
            async with NetworkNamespace(inside.path, host.path) as namespace:
                fault = Faulty(patch, steps)
                try:
                    await namespace.add_interface(config)
                except ShimError as error:
                    assert "injected" in str(error)  # noqa: PT017 - the loop ends when nothing is raised
                if fault.left >= 0:
                    break
        assert await names(inside) == []
        now = await link(host, "up0")
        assert (await names(host), now.mtu, now.alias) == (before[0], before[1].mtu, before[1].alias)
        steps += 1
    assert steps >= 3


async def test_a_cancelled_add_is_whole(host, inside):
    async with NetworkNamespace(inside.path, host.path) as namespace:
        for turns in range(30):
            config = InterfaceConfig("eth1", addresses=(ip_interface("10.9.5.2/24"),))
            task = asyncio.ensure_future(namespace.add_interface(config))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if await names(inside):
                (found,) = [one for one in await namespace.interfaces() if one.name == "eth1"]
                assert (found.up, found.addresses[0]) == (True, config.addresses[0])
                await namespace.remove_interface(name="eth1")
            assert await names(host) == []


@pytest.mark.parametrize("kind", ["veth", "tap"])
async def test_a_hundred_times_leaves_nothing(host, inside, kind):
    descriptors = os.listdir("/proc/self/fd")
    async with NetworkNamespace(inside.path, host.path) as namespace:
        for _ in range(100):
            found = await namespace.add_interface(InterfaceConfig("eth1", kind))
            assert await namespace.remove_interface(mac=found.mac)
    assert await names(host) == await names(inside) == []
    assert os.listdir("/proc/self/fd") == descriptors


def route(destination, gateway=None, device="", **members):
    return Route(
        ip_network(destination), ip_address(gateway) if gateway is not None else None, device, **members
    )


async def with_two_networks(namespace):
    for name, addresses in (("eth0", ("10.8.0.2/24", "fd08::2/64")), ("eth1", ("10.8.1.2/24",))):
        await namespace.add_interface(InterfaceConfig(name, addresses=tuple(map(ip_interface, addresses))))
    # The kernel gives each an address of its own, and a route, in its own time.
    while sum(str(one.destination) == "fe80::/64" for one in await namespace.routes()) < 2:  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.01)


async def own(namespace):
    """The table without what the kernel made."""
    return [str(one) for one, by_kernel in await namespace._inside.routes() if not by_kernel]


async def test_routes_are_replaced_whole(host, inside):
    async with NetworkNamespace(inside.path, host.path) as namespace:
        await with_two_networks(namespace)
        kernels = await namespace.routes()
        assert route("10.8.0.0/24", device="eth0", source=ip_address("10.8.0.2"), scope=253) in kernels
        first = [
            route("0.0.0.0/0", "10.8.0.1"),
            # Reached by the next one only, which has to be added before.
            route("172.16.0.0/12", "192.168.7.1"),
            route("192.168.7.0/24", device="eth1"),
            route("::/0", "fd08::1", metric=5),
        ]
        assert set(kernels) <= set(await namespace.replace_routes(first))
        assert set(await own(namespace)) == {
            "default via 10.8.0.1 dev eth0",
            "172.16.0.0/12 via 192.168.7.1 dev eth1",
            "192.168.7.0/24 dev eth1",
            "default via fd08::1 dev eth0",
        }
        # Said again nothing changes, and nothing is away for a moment.
        with pytest.MonkeyPatch.context() as patch:
            fault = Faulty(patch, 0)
            await namespace.replace_routes(first)
            assert fault.left == 0
        await namespace.replace_routes([route("0.0.0.0/0", "10.8.1.1", "eth1", metric=3)])
        assert await own(namespace) == ["default via 10.8.1.1 dev eth1"]
        assert await namespace.replace_routes([]) == kernels


async def test_a_table_that_cannot_be_is_not_begun(host, inside):
    async with NetworkNamespace(inside.path, host.path) as namespace:
        await with_two_networks(namespace)
        good = [route("0.0.0.0/0", "10.8.0.1"), route("10.50.0.0/16", device="eth1")]
        await namespace.replace_routes(good)
        before = await namespace.routes()
        for bad, text in (
            (route("10.60.0.0/16", "10.99.0.1"), r"route 10\.60\.0\.0/16 via 10\.99\.0\.1 cannot be added"),
            (route("10.60.0.0/16", device="no0"), "there is no interface no0"),
        ):
            with pytest.raises(ShimError, match=text):
                await namespace.replace_routes([route("0.0.0.0/0", "10.8.1.1"), bad])
            assert await namespace.routes() == before
        with pytest.raises(AlreadyExists, match="route 10"):
            await namespace.replace_routes(
                [route("10.60.0.0/16", device="eth0"), route("10.60.0.0/16", device="eth1")]
            )
        assert await namespace.routes() == before


async def test_a_fault_at_any_step_leaves_the_routes_as_they_were(host, inside, monkeypatch):
    async with NetworkNamespace(inside.path, host.path) as namespace:
        await with_two_networks(namespace)
        await namespace.replace_routes([route("0.0.0.0/0", "10.8.0.1"), route("10.50.0.0/16", device="eth1")])
        before = set(await namespace.routes())
        for step in range(4):
            with monkeypatch.context() as patch:
                Faulty(patch, step)
                with pytest.raises(ShimError, match="injected"):
                    await namespace.replace_routes(
                        [route("0.0.0.0/0", "10.8.1.1"), route("10.51.0.0/16", device="eth1")]
                    )
            assert set(await namespace.routes()) == before


async def test_processes_in_the_namespace_see_it(inside, host):
    """A process that was there before has the interface at once."""

    def interfaces():
        setns(inside.fd.fileno(), CLONE_NEWNET)
        return {name for _, name in socket.if_nameindex()}

    async with NetworkNamespace(inside.path, host.path) as namespace:
        await namespace.add_interface(InterfaceConfig("hot0"))
        assert await asyncio.to_thread(inside.run, interfaces) == {"lo", "hot0"}
