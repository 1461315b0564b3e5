"""Directories and devices of a container that runs. Real runtimes."""

from __future__ import annotations

import json
import os

import pytest
from support import bed

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

SLEEP = ["sleep", "inf"]


@pytest.mark.parametrize(
    "runtime", ["runc", "crun", pytest.param("runc", marks=pytest.mark.cgroup2, id="runc-on-cgroup2")]
)
def test_a_directory_and_a_device_of_a_running_container(ocishim, bundle, tmp_path, runtime):
    (tmp_path / "file").write_text("of the host\n")
    ocishim("run", "-d", "--runtime", runtime, bundle(SLEEP), "c1")
    assert ocishim("device", "add", "c1", tmp_path, "/tmp/in", "--read-only") == (0, "", "")
    assert ocishim("exec", "c1", "cat", "/tmp/in/file").out == "of the host\n"
    assert "Read-only" in ocishim("exec", "c1", "touch", "/tmp/in/new").err
    assert "Operation not permitted" in ocishim("exec", "c1", "mknod", "/dev/x", "c", "10", "200").err
    added = ocishim("device", "add", "c1", "/dev/net/tun", "--json")
    assert json.loads(added.out)["major"] == 10
    assert ocishim("exec", "c1", "sh", "-c", "exec 3<>/dev/net/tun && echo open").out == "open\n"
    assert ocishim("device", "list", "c1").out.split() == [
        "TARGET", "SOURCE", "KIND", "ACCESS", "/tmp/in", str(tmp_path), "mount", "ro",
        "/dev/net/tun", "/dev/net/tun", "c", "10:200", "rwm",
    ]  # fmt: skip
    assert ocishim("device", "remove", "c1", "/dev/net/tun") == (0, "", "")
    assert ocishim("device", "remove", "c1", "/dev/net/tun") == (0, "", "")
    with open(f"/proc/{_pid(ocishim)}/root/dev/again", "w", encoding="ascii") as file:
        file.write("")
    assert "Operation not permitted" in ocishim("exec", "c1", "mknod", "/dev/x", "c", "10", "200").err
    assert ocishim("device", "remove", "c1", "/tmp/in") == (0, "", "")
    assert ocishim("exec", "c1", "ls", "/tmp").out == ""
    assert json.loads(ocishim("device", "list", "--json", "c1").out) == []
    ocishim("delete", "--force", "c1")
    assert os.listdir(tmp_path)


def _pid(ocishim):
    return json.loads(ocishim("state", "--json", "c1").out)["pid"]


def test_a_container_with_users_of_its_own(ocishim, bundle, open_rootfs):
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    config = json.loads((bed.CHECKOUT / "bundles" / "readonly" / "config.json").read_text())
    namespaces = [*config["linux"]["namespaces"], {"type": "user"}]
    linux = {"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids}
    made = bundle(SLEEP, linux=linux, root={"path": str(open_rootfs)})
    assert ocishim("run", "-d", made, "c1").code == 0
    assert ocishim("device", "add", "c1", "/dev/full", "/dev/no-space") == (0, "", "")
    assert "No space left" in ocishim("exec", "c1", "sh", "-c", "echo x > /dev/no-space").err
    ocishim("device", "remove", "c1", "/dev/no-space")
    assert "/dev/no-space" not in ocishim("exec", "c1", "ls", "/dev").out
    ocishim("delete", "--force", "c1")


def test_where_there_is_nothing_to_add_to(ocishim, bundle):
    ocishim("run", "-d", "--runtime", "runsc", bundle(SLEEP), "c1")
    assert "under gVisor" in ocishim("device", "add", "c1", "/dev/null", "/dev/x").err
    ocishim("stop", "--timeout", "0", "c1")
    assert ocishim("device", "list", "c1").err == "ocishim: container c1 is stopped: it has no file system\n"
    ocishim("delete", "c1")
    assert "does not exist" in ocishim("device", "remove", "c1", "/x").err
