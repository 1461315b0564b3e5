"""What a route may be asked to be, and when two are the same."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from shim.errors import InvalidArgument
from shim.net.route import Route, parse_destination, parse_host, parse_route

DEFAULT = ip_network("0.0.0.0/0")
GATEWAY = ip_address("10.0.0.1")


@pytest.mark.parametrize(
    ("text", "version", "network"),
    [
        ("default", 4, "0.0.0.0/0"),
        ("default", 6, "::/0"),
        ("", 4, "0.0.0.0/0"),
        ("10.1.0.0/16", 4, "10.1.0.0/16"),
        ("10.1.2.3", 4, "10.1.2.3/32"),
        ("fd00::/64", 4, "fd00::/64"),
    ],
)
def test_destinations(text, version, network):
    assert parse_destination(text, version) == ip_network(network)


@pytest.mark.parametrize("text", ["10.1.2.3/16", "x", "10.0.0.0/33", "fd00::1/64"])
def test_destinations_that_are_none(text):
    with pytest.raises(InvalidArgument, match=f"destination '{text}'"):
        parse_destination(text)


def test_hosts_that_are_none():
    with pytest.raises(InvalidArgument, match=r"gateway '10\.0\.0\.1/8' is no address"):
        parse_host("10.0.0.1/8", "gateway")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, "needs a gateway or a device"),
        ({"gateway": ip_address("fd00::1")}, "another IP version"),
        ({"gateway": GATEWAY, "source": ip_address("fd00::1")}, "another IP version"),
        ({"device": "a/b"}, "device 'a/b'"),
        ({"gateway": GATEWAY, "metric": -1}, "metric -1"),
        ({"gateway": GATEWAY, "metric": 1 << 32}, "metric"),
        ({"gateway": GATEWAY, "scope": 256}, "scope 256"),
    ],
)
def test_what_can_never_work_is_refused(members, text):
    with pytest.raises(InvalidArgument, match=text):
        Route(DEFAULT, **members)


def test_the_same_route_as_the_kernel_tells_of_it():
    found = Route(DEFAULT, GATEWAY, "eth0", scope=0)
    assert Route(DEFAULT, GATEWAY).same(found)
    assert Route(DEFAULT, GATEWAY, "eth0").same(found)
    assert not Route(DEFAULT, GATEWAY, "eth1").same(found)
    assert not Route(DEFAULT, GATEWAY, metric=5).same(found)
    assert not Route(DEFAULT, ip_address("10.0.0.2")).same(found)
    on_link = Route(ip_network("10.0.0.0/8"), device="eth0")
    assert on_link.same(replace(on_link, scope=253))
    assert not on_link.same(replace(on_link, scope=0))
    six = Route(ip_network("::/0"), ip_address("fd00::1"), scope=7)
    assert six.same(replace(six, device="eth0", scope=0, metric=1024))


def test_as_words_and_as_json():
    route = Route(DEFAULT, GATEWAY, "eth0", metric=7)
    assert str(route) == "default via 10.0.0.1 dev eth0"
    assert route.to_dict() == {
        "destination": "0.0.0.0/0",
        "gateway": "10.0.0.1",
        "device": "eth0",
        "scope": "global",
        "metric": 7,
    }
    assert str(Route(ip_network("10.0.0.0/8"), device="eth0")) == "10.0.0.0/8 dev eth0"


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("default via 10.0.0.1", Route(DEFAULT, GATEWAY)),
        ("default via fd00::1 metric 9", Route(ip_network("::/0"), ip_address("fd00::1"), metric=9)),
        ("default dev eth0", Route(DEFAULT, device="eth0")),
        ("10.1.0.0/16 dev eth1 src 10.1.0.2 scope global", Route(ip_network("10.1.0.0/16"), None, "eth1", ip_address("10.1.0.2"), 0)),
        ("10.1.2.3 dev eth1 scope 253", Route(ip_network("10.1.2.3/32"), device="eth1", scope=253)),
    ],
)  # fmt: skip
def test_routes_are_written_as_for_ip_route(text, route):
    assert parse_route(text) == route
    assert parse_route(route.to_text()) == route


@pytest.mark.parametrize(
    "text",
    ["", "default", "default via", "default via x", "default by 10.0.0.1", "default via 10.0.0.1 via 10.0.0.2",
     "10.0.0.1/8 dev e", "default dev e metric x", "default dev e scope near", "::/0 via 10.0.0.1"],
)  # fmt: skip
def test_what_is_no_route(text):
    with pytest.raises(InvalidArgument):
        parse_route(text)
