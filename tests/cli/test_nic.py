"""Interfaces and routes of a container that runs. Real runtimes, and the host's own network namespace on one end."""

from __future__ import annotations

import json
import socket
import time

import pytest

from shim.cli.verbs import nic
from shim.net.interface import KINDS

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

SLEEP = ["sleep", "inf"]


def _interfaces(ocishim, container_id="c1"):
    return {each["name"]: each for each in json.loads(ocishim("nic", "list", "--json", container_id).out)}


def test_every_kind_can_be_asked_for():
    """The verb has its own list, for which --help need not load pyroute2."""
    assert sorted(nic._KINDS) == sorted(KINDS)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_an_interface_and_routes_of_a_running_container(ocishim, bundle, runtime):
    ocishim("run", "-d", "--runtime", runtime, bundle(SLEEP), "c1")
    before = {name for _, name in socket.if_nameindex()}
    made = ocishim(
        "nic", "add", "c1", "hot0", "--mac", "02:00:00:00:00:09", "--address", "10.98.0.2/24",
        "--address", "fd98::2/64", "--peer-name", "ocishim-test0", "--json",
    )  # fmt: skip
    assert made.code == 0
    assert json.loads(made.out)["mac"] == "02:00:00:00:00:09"
    assert {name for _, name in socket.if_nameindex()} - before == {"ocishim-test0"}
    assert "hot0" in ocishim("exec", "c1", "ls", "/sys/class/net").out
    listed = ocishim("nic", "list", "c1")
    assert [line.split()[:2] for line in listed.out.splitlines()][1:] == [
        ["lo", "loopback"],
        ["hot0", "veth"],
    ]
    updated = ocishim("route", "update", "--json", "c1", "default via 10.98.0.1", "10.99.0.0/16 dev hot0")
    assert {
        "destination": "0.0.0.0/0",
        "gateway": "10.98.0.1",
        "device": "hot0",
        "scope": "global",
    } in json.loads(updated.out)
    routes = ocishim("route", "list", "c1").out.splitlines()
    assert routes[0].split() == ["DESTINATION", "GATEWAY", "DEVICE", "SOURCE", "SCOPE", "METRIC"]
    assert any(line.split() == ["10.99.0.0/16", "hot0", "link"] for line in routes)
    assert ocishim("nic", "remove", "c1", "--mac", "02:00:00:00:00:09") == (0, "", "")
    assert ocishim("nic", "remove", "c1", "hot0") == (0, "", "")
    assert set(_interfaces(ocishim)) == {"lo"}
    assert {name for _, name in socket.if_nameindex()} == before
    ocishim("delete", "--force", "c1")


def test_interfaces_end_with_the_container(ocishim, bundle):
    ocishim("create", bundle(SLEEP), "c1")
    assert ocishim("nic", "add", "c1", "hot0", "--peer-name", "ocishim-test1").code == 0
    ocishim("start", "c1")
    assert "hot0" in _interfaces(ocishim)
    ocishim("delete", "--force", "c1")
    # The kernel takes a namespace apart after its last process has ended, in its own time.
    while "ocishim-test1" in {name for _, name in socket.if_nameindex()}:
        time.sleep(0.01)


def test_gvisor_takes_interfaces_before_it_starts(ocishim, bundle):
    ocishim("create", "--runtime", "runsc", bundle(SLEEP), "c1")
    assert ocishim("nic", "add", "c1", "hot0", "--peer-name", "ocishim-test2").code == 0
    ocishim("start", "c1")
    refused = ocishim("nic", "add", "c1", "hot1")
    assert (refused.code, refused.out) == (1, "")
    assert "under gVisor, which takes its interfaces over when it starts" in refused.err
    ocishim("delete", "--force", "c1")


def test_what_has_no_network_of_its_own(ocishim, bundle):
    sharing = bundle(SLEEP)
    config = json.loads((sharing / "config.json").read_text())
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [each for each in namespaces if each["type"] != "network"]
    (sharing / "config.json").write_text(json.dumps(config))
    ocishim("run", "-d", sharing, "c1")
    assert "the network of the host" in ocishim("nic", "list", "c1").err
    ocishim("stop", "--timeout", "0", "c1")
    assert ocishim("route", "list", "c1").err == "ocishim: container c1 is stopped: it has no network\n"
    ocishim("delete", "c1")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nic", "add", "nobody", "e"], 1, "container nobody does not exist"),
        (["nic", "add", "nobody", "e", "--kind", "bond"], 2, "bond"),
        (["nic", "add", "nobody", "e", "--address", "10.0.0.1"], 1, "no prefix length"),
        (["nic", "add", "nobody", "e/f"], 1, "interface name 'e/f'"),
        (["nic", "remove", "nobody"], 2, "give a NAME or a --mac"),
        (["route", "update", "nobody", "default"], 1, "needs a gateway or a device"),
        (["route", "update", "nobody", "default by x"], 1, "after the destination come via, dev"),
    ],
)
def test_what_cannot_be_is_one_line(ocishim, words, code, text):
    refused = ocishim(*words)
    assert (refused.code, refused.out) == (code, "")
    assert text in refused.err
    assert refused.err.count("\n") == 1
