"""The networks of the configuration, and which plugin has which address of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from shim.net import InterfaceConfig, parse_address, parse_route
from shim.plugin import EndpointSettings
from shim.plugin.container.addresses import Addresses
from shim.plugin.container.connections import connections
from shim.plugin.container.networks import NamedNetwork

BRIDGE = {"kind": "bridge", "bridge": "br0", "subnet": "10.5.0.0/29", "gateway": "10.5.0.1", "mtu": 1400}
MACVLAN = {"kind": "macvlan", "parent": "eth0", "subnet": "fd00::/64", "gateway": "fd00::9"}


@pytest.fixture
def alive():
    return {"p1", "p2"}


@pytest.fixture
def addresses(tmp_path, alive):
    return Addresses(str(tmp_path), "filesystem", alive.__contains__)


def test_a_plugin_in_two_networks(addresses):
    endpoints = {"b": EndpointSettings(mac_address="02:00:00:00:00:0A"), "a": EndpointSettings("fd00::5")}
    interfaces, routes = connections(endpoints, {"b": BRIDGE, "a": MACVLAN}, addresses, "p1")
    assert interfaces == (
        InterfaceConfig("eth0", kind="macvlan", parent="eth0", addresses=(parse_address("fd00::5/64"),)),
        InterfaceConfig(
            "eth1",
            bridge="br0",
            mtu=1400,
            mac="02:00:00:00:00:0a",
            addresses=(parse_address("10.5.0.2/29"),),
        ),
    )
    assert set(routes) == {
        parse_route("default via 10.5.0.1 dev eth1"),
        parse_route("default via fd00::9 dev eth0"),
    }


def test_the_default_route_is_through_the_first(addresses):
    second = {**BRIDGE, "subnet": "10.6.0.0/24", "gateway": "10.6.0.1"}
    endpoints = {"y": EndpointSettings(), "x": EndpointSettings()}
    _, routes = connections(endpoints, {"x": second, "y": BRIDGE}, addresses, "p1")
    assert routes == (parse_route("default via 10.6.0.1 dev eth0"),)


def test_addresses_are_given_out_and_come_back(addresses, alive):
    network = NamedNetwork.of("n", {"n": BRIDGE})
    taken = [addresses.take(network, "p1"), addresses.take(network, "p2"), addresses.take(network, "p1")]
    assert taken == [ip_address(f"10.5.0.{last}") for last in (2, 3, 4)]
    addresses.free(["n", "m"], "p1")
    addresses.free(["n"], "p1")
    assert addresses.take(network, "p2") == ip_address("10.5.0.2")
    with pytest.raises(FailedPrecondition, match=r"10\.5\.0\.3 .* p2"):
        addresses.take(network, "p1", "10.5.0.3")
    alive.remove("p2")
    assert addresses.take(network, "p1", "10.5.0.3") == ip_address("10.5.0.3")


def test_the_last_address_is_the_last(addresses, tmp_path):
    network = NamedNetwork.of("n", {"n": BRIDGE})
    assert [str(addresses.take(network, "p1"))[-1] for _ in range(5)] == list("23456")
    with pytest.raises(ResourceExhausted, match="network n"):
        addresses.take(network, "p2")
    addresses.free(["n"], "p1")
    assert list((tmp_path / "networks").iterdir()) == []


def test_no_two_have_one_address(tmp_path):
    network = NamedNetwork.of("n", {"n": {**BRIDGE, "subnet": "10.5.0.0/24"}})

    def take(owner: int) -> str:
        return str(Addresses(str(tmp_path), "filesystem", lambda _: True).take(network, f"p{owner}"))

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(40)))
    assert len(set(taken)) == 40


@pytest.mark.parametrize("wanted", ["10.5.0.1", "10.5.1.2", "fd00::1"])
def test_an_address_that_is_no_plugins(addresses, wanted):
    with pytest.raises(InvalidArgument, match=f"{wanted}.*network n"):
        addresses.take(NamedNetwork.of("n", {"n": BRIDGE}), "p1", wanted)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("text", "is no table"),
        ({**BRIDGE, "brigde": "x"}, "brigde"),
        ({**BRIDGE, "name": "x"}, "name"),
        ({**BRIDGE, "mtu": "1400"}, "mtu"),
        ({**BRIDGE, "mtu": True}, "mtu"),
        ({**BRIDGE, "mtu": 3}, "mtu"),
        ({**BRIDGE, "subnet": "10.5.0.1/24"}, "subnet"),
        ({"bridge": "br0"}, "no subnet"),
        ({**BRIDGE, "gateway": "10.9.0.1"}, "gateway"),
        ({**BRIDGE, "gateway": "x"}, "gateway"),
        ({**BRIDGE, "kind": "macvlan"}, "bridge"),
        ({"subnet": "10.5.0.0/24"}, "bridge"),
        ({**MACVLAN, "kind": "carrier-pigeon"}, "carrier-pigeon"),
        ({**MACVLAN, "parent": ""}, "parent"),
        ({**MACVLAN, "mode": "loud"}, "loud"),
    ],
)
def test_a_table_that_is_no_network(table, says):
    with pytest.raises(InvalidArgument, match=says):
        NamedNetwork.of("n", {"n": table})


@pytest.mark.parametrize("name", ["../n", "", "a/b", "a b"])
def test_a_name_that_escapes(name):
    with pytest.raises(InvalidArgument, match="network"):
        NamedNetwork.of(name, {name: BRIDGE})


def test_a_network_that_nobody_configured(addresses, tmp_path):
    endpoints = {"a": EndpointSettings(), "z": EndpointSettings()}
    with pytest.raises(NotFound, match=r"'z'.*: a, b"):
        connections(endpoints, {"a": MACVLAN, "b": BRIDGE}, addresses, "p1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "x"])
def test_a_mac_address_that_is_none_takes_nothing(addresses, tmp_path, mac):
    with pytest.raises(InvalidArgument, match=mac):
        connections({"a": EndpointSettings(mac_address=mac)}, {"a": BRIDGE}, addresses, "p1")
    assert list(tmp_path.iterdir()) == []


@given(st.integers(8, 31), st.booleans())
def test_candidates_are_hosts_of_the_subnet(prefix, gateway):
    table = {"bridge": "b", "subnet": f"10.0.0.0/{prefix}", "gateway": "10.0.0.1" if gateway else ""}
    network = NamedNetwork.of("n", {"n": table})
    first = next(network.candidates(), None)
    assert first is None or (first in network.range and first != network.router)
