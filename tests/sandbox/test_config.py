"""Configurations: what is refused, and that what is kept is what was given."""

from __future__ import annotations

import json

import pytest

from shim.errors import InvalidArgument
from shim.net import InterfaceConfig, parse_address, parse_route
from shim.sandbox import ContainerConfig, SandboxConfig

WHOLE = SandboxConfig(
    "s1",
    runtime="crun",
    hostname="web",
    share_pids=True,
    interfaces=(InterfaceConfig("eth0", mtu=1400, addresses=(parse_address("10.0.0.2/24"),)),),
    routes=(parse_route("default via 10.0.0.1 metric 5"),),
    nameservers=("10.0.0.1",),
    sysctls={"net.ipv4.ip_forward": "1"},
    cgroup_parent="/x",
    options={"drain_timeout": 1.0},
    containers=(
        ContainerConfig("a", bundle="/b", env=("A=1",), resources={"memory": {"limit": 1}}),
        ContainerConfig("b", rootfs="/r", args=("sh",), terminal=True, read_only=True, user="5:6"),
    ),
    annotations={"who": "me"},
)


def test_what_is_written_is_read():
    assert SandboxConfig.from_dict(json.loads(json.dumps(WHOLE.to_dict()))) == WHOLE
    assert SandboxConfig.from_dict({"id": "s1"}) == SandboxConfig("s1")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ([], "an object is expected"),
        ({}, "sandbox: .*id"),
        ({"id": "a/b"}, "sandbox id 'a/b'"),
        ({"id": 5}, "id = 5 is not"),
        ({"id": "s", "cgroup_parent": "/a/../b"}, "must not contain"),
        ({"id": "s", "runtme": "runc"}, "unknown member 'runtme'; known: id, runtime"),
        ({"id": "s", "share_pids": 1}, "share_pids = 1 is not"),
        ({"id": "s", "host_network": True, "routes": ["default via 10.0.0.1"]}, "the host's network gets no"),
        ({"id": "s", "routes": "default"}, "routes = 'default' is not"),
        ({"id": "s", "routes": [{"dst": "x"}]}, "write it as"),
        ({"id": "s", "interfaces": [{"name": "e", "mtu": True}]}, "mtu = True is not"),
        ({"id": "s", "interfaces": [{"name": "e", "addresses": ["10.0.0.1"]}]}, "no prefix length"),
        ({"id": "s", "interfaces": [{"name": "e"}, {"name": "e"}]}, "two interfaces of one name"),
        ({"id": "s", "containers": [{"id": "c"}]}, "container c: give a bundle or a rootfs"),
        ({"id": "s", "containers": [{"id": "c", "rootfs": "/r", "bundle": "/b"}]}, "give a bundle or a rootfs"),
        ({"id": "s", "containers": [{"id": "c", "rootfs": "/r"}]}, "a rootfs needs args"),
        ({"id": "s", "containers": [{"id": "c", "bundle": "b"}]}, "'b' is no absolute path"),
        ({"id": "s", "containers": [{"id": "c", "bundle": "/b", "user": "me"}]}, "user 'me' is not a numeric"),
        ({"id": "s", "containers": [{"id": "c", "bundle": "/b", "resources": []}]}, "resources = \\[\\] is not"),
        ({"id": "s", "containers": [{"id": "c", "bundle": "/b"}] * 2}, "two containers of one name: c, c"),
    ],
)  # fmt: skip
def test_what_can_never_work_is_refused(members, text):
    with pytest.raises(InvalidArgument, match=text):
        SandboxConfig.from_dict(members)
