"""The files of a pod, and the mounts of them in a config.json."""

from __future__ import annotations

import pytest

from shim.errors import NotFound
from shim.task.pod_files import PodFiles


def test_the_hosts_files_where_nothing_is_said(tmp_path):
    files = PodFiles(tmp_path / "pod")
    files.make()
    with open("/etc/hosts", encoding="utf-8") as hosts:
        assert (tmp_path / "pod" / "hosts").read_text() == hosts.read()
    files.remove()
    files.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_container_mounts_itself_stays(tmp_path):
    files = PodFiles(tmp_path / "pod", hostname="n", resolv_conf="nameserver 192.0.2.1\n")
    files.make()
    own = {"destination": "/etc/hosts", "type": "bind", "source": "/h"}
    raw = {"mounts": [own], "root": {"readonly": True}}
    laid = files.laid_into(raw)
    assert laid["mounts"][0] == own
    assert [m["destination"] for m in laid["mounts"]] == ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
    assert all("ro" in m["options"] for m in laid["mounts"][1:])
    assert raw["mounts"] == [own]
    assert (tmp_path / "pod" / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"


@pytest.mark.root
def test_shared_memory_takes_the_place_of_the_containers_own(tmp_path):
    files = PodFiles(tmp_path / "pod", shared_memory=True)
    files.make()
    try:
        for mounts, count in (([{"destination": "/dev/shm", "type": "tmpfs"}], 1), ([], 1)):
            found = [
                m for m in files.laid_into({"mounts": mounts})["mounts"] if m["destination"] == "/dev/shm"
            ]
            assert (len(found), found[0]["type"]) == (count, "bind")
            assert {"rw", "nosuid", "noexec", "nodev"} <= set(found[0]["options"])
        bound = {"destination": "/dev/shm", "type": "bind", "source": "/x"}
        assert bound in files.laid_into({"mounts": [bound]})["mounts"]
    finally:
        files.remove()
    assert not (tmp_path / "pod").exists()


def test_a_bundle_that_is_not_there(tmp_path):
    with pytest.raises(NotFound, match="pod"):
        PodFiles(tmp_path / "no" / "pod").make()
