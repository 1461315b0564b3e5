"""A shim's events as they arrive at containerd, of real containers: order, content, and what an outage does to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import bed
from support.events_service import EventsService, containerd
from support.shims import NAMESPACE, PROCESS_URL, CgroupParent, Connection, json_any, options

__all__ = ["containerd"]  # a fixture

pytestmark = pytest.mark.root


def create(connection: Connection, cgroups: CgroupParent, folder: Path, container_id: str, **config) -> int:
    wanted = options(cgroup_parent=cgroups.path, **config)
    return connection.call("Create", id=container_id, bundle=str(folder), options=wanted).pid


def end(connection: Connection, container_id: str) -> int:
    connection.call("Kill", id=container_id, signal=9)
    status = connection.call("Wait", id=container_id).exit_status
    connection.call("Delete", id=container_id)
    return status


def test_a_life_with_an_outage_in_it(cgroups, program, containerd, bundle):
    """Nothing is lost, nothing comes twice or out of order."""
    folder = bundle(["sleep", "1000"])
    program.start(folder, "c1", TTRPC_ADDRESS=str(containerd.path))
    with program.connect() as connection:
        pid = create(connection, cgroups, folder, "c1")
        containerd.until("create")
        containerd.close()
        connection.call("Start", id="c1")
        spec = json_any(PROCESS_URL, {"args": ["sh", "-c", "exit 3"], "cwd": "/", "env": ["PATH=/bin"]})
        connection.call("Exec", id="c1", exec_id="e", spec=spec)
        exec_pid = connection.call("Start", id="c1", exec_id="e").pid
        connection.call("Wait", id="c1", exec_id="e")
        connection.call("Pause", id="c1")
        connection.call("Resume", id="c1")
        containerd.open()
        assert end(connection, "c1") == 137
    containerd.until("delete")
    assert containerd.topics() == [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exit",
        "paused",
        "resumed",
        "exit",
        "delete",
    ]
    found = [event for _, event in containerd.messages()]
    assert (found[0].container_id, found[0].bundle, found[0].pid) == ("c1", str(folder), pid)
    assert (found[4].id, found[4].pid, found[4].exit_status) == ("e", exec_pid, 3)
    assert (found[7].id, found[7].pid, found[7].exit_status) == ("c1", pid, 137)
    assert found[8].exited_at == found[7].exited_at
    assert containerd.namespaces == {NAMESPACE}
    assert (folder / "shim.log").read_text().count("events wait, nobody takes them") == 1


HUNGRY = ["sh", "-c", "x=x; while true; do x=$x$x; done"]


def be_killed_for_memory(connection: Connection, containerd: EventsService) -> None:
    """c1 runs until it has eaten too much, and is deleted; what is told of it is in that order."""
    connection.call("Start", id="c1")
    assert connection.call("Wait", id="c1").exit_status == 137
    connection.call("Delete", id="c1")
    containerd.until("delete")
    topics = containerd.topics()
    assert topics[:2] == ["create", "start"]
    assert topics[-2:] == ["exit", "delete"]
    assert set(topics[2:-2]) == {"oom"}


def test_out_of_memory_is_told_before_the_exit(cgroups, program, containerd, bundle):
    """Through the wire from the kernel's own kill, on cgroup v1 and v2 alike."""
    folder = bundle(HUNGRY)
    program.start(folder, "c1", TTRPC_ADDRESS=str(containerd.path))
    with program.connect() as connection:
        create(connection, cgroups, folder, "c1", memory_bytes=32 << 20)
        be_killed_for_memory(connection, containerd)


def test_out_of_memory_in_the_pod_is_told_before_the_exit(cgroups, program, containerd, bundle):
    """The limit is that of the group above alone, as a pod's is."""
    folder = bundle(HUNGRY)
    program.start(folder, "c1", TTRPC_ADDRESS=str(containerd.path))
    with program.connect() as connection:
        create(connection, cgroups, folder, "c1")
        files = [top / name for top in cgroups.folders for name in ("memory.max", "memory.limit_in_bytes")]
        (limit,) = [file for file in files if file.exists()]
        limit.write_text(str(48 << 20))
        be_killed_for_memory(connection, containerd)


def test_what_is_over_at_once_and_what_never_ran(cgroups, program, containerd, bundle):
    folders = [bundle(["true"]), bundle(["true"])]
    program.start(folders[0], "c1", TTRPC_ADDRESS=str(containerd.path))
    with program.connect() as connection:
        for _ in range(3):
            create(connection, cgroups, folders[0], "c1")
            connection.call("Start", id="c1")
            connection.call("Wait", id="c1")
            connection.call("Delete", id="c1")
        create(connection, cgroups, folders[1], "c2")
        connection.call("Delete", id="c2")
        connection.call("Shutdown", id="c1")
    expected = [*["create", "start", "exit", "delete"] * 3, "create", "delete"]
    # The shim, which was asked to end, does so when it has told all.
    bed.until(lambda: len(containerd.topics()) == len(expected), "some events are missing")
    assert containerd.topics() == expected
    assert not containerd.messages()[-1][1].HasField("exited_at")
