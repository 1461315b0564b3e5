"""What an interface may be asked to be."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.net.interface import KINDS, Interface, InterfaceConfig, parse_address, validate_name

LEAST = {
    "veth": {},
    "macvlan": {"parent": "eth0"},
    "ipvlan": {"parent": "eth0"},
    "vlan": {"parent": "eth0", "vlan": 5},
    "tap": {},
    "dummy": {},
    "physical": {"parent": "eth0"},
}


def test_every_kind_is_tried_here():
    assert set(LEAST) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_needs_what_it_needs(kind):
    assert InterfaceConfig("eth1", kind, **LEAST[kind]).kind == kind
    for member in LEAST[kind]:
        rest = {name: value for name, value in LEAST[kind].items() if name != member}
        with pytest.raises(InvalidArgument, match=f"a {kind} interface needs {member}"):
            InterfaceConfig("eth1", kind, **rest)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"kind": "bond"}, "interface kind 'bond': use one of veth"),
        ({"kind": "dummy", "bridge": "br0"}, "a dummy interface has no bridge"),
        ({"bridge": "br0", "peer_namespace": "/run/netns/x"}, "not both"),
        ({"bridge": "br 0"}, "bridge 'br 0'"),
        ({"mac": "01:00:5e:00:00:01"}, "no address of one interface"),
        ({"mac": "02:00:00:00:00"}, "no address of one interface"),
        ({"mac": "02-00-00-00-00-01"}, "no address of one interface"),
        ({"mtu": 67}, "mtu 67: use 68 to 65535"),
        ({"mtu": -1}, "mtu -1"),
        ({"kind": "vlan", "parent": "e", "vlan": 4095}, "vlan 4095: use 1 to 4094"),
        ({"kind": "macvlan", "parent": "e", "mode": "l2"}, "mode 'l2': use one of bridge"),
        ({"kind": "ipvlan", "parent": "e", "mac": "02:00:00:00:00:01"}, "keeps the address that it has"),
        ({"addresses": (ip_interface("10.0.0.1/8"),) * 2}, "given twice: 10.0.0.1/8"),
    ],
)
def test_what_can_never_work_is_refused(members, text):
    with pytest.raises(InvalidArgument, match=text):
        InterfaceConfig("eth1", **members)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "a:b", "a\0b", "a\nb", "eth%d", "x" * 16, "é" * 8]
)
def test_names_that_the_kernel_would_refuse_or_change(name):
    with pytest.raises(InvalidArgument, match="interface name"):
        validate_name(name)


@pytest.mark.parametrize("text", ["10.0.0.2", "10.0.0.2/33", "10.0.0/24", "fd00::1/129", "", "/8", "a/8"])
def test_addresses_have_a_prefix_length(text):
    with pytest.raises(InvalidArgument, match="address"):
        parse_address(text)


@given(st.ip_addresses(), st.integers(0, 32))
def test_addresses_are_read_as_they_are_written(ip, prefix):
    assert str(parse_address(f"{ip}/{prefix}")) == f"{ip}/{prefix}"


def test_a_found_one_as_json():
    found = Interface("eth1", "veth", "02:00:00:00:00:01", 1500, True, (ip_interface("10.0.0.1/8"),))
    assert found.to_dict() == {
        "name": "eth1",
        "kind": "veth",
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "up": True,
        "addresses": ["10.0.0.1/8"],
    }
