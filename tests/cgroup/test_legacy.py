import os
import signal
from contextlib import closing

import pytest

from shim.cgroup import tree
from shim.cgroup.hierarchy import Hierarchy, Membership, Mount
from shim.cgroup.legacy import LegacyGroup, own_to

HOST = Hierarchy(
    "legacy", legacy={name: Mount(f"/cg/{name}") for name in ("cpu", "memory", "pids", "name=systemd")}
)


@pytest.mark.parametrize(
    ("path", "ours", "own"),
    [
        ("/c1", "/", True),
        ("/c1", "/c2", True),
        ("/pod/c1", "/pod", True),
        ("/c1", "/c12", True),
        ("/", "/", False),
        ("/", "/shim", False),
        ("/shim", "/shim", False),
        ("/shim", "/shim/inner", False),
    ],
)
def test_whose_group_it_is(path, ours, own):
    assert own_to(path, ours) == own


def test_only_groups_of_its_own_count():
    theirs = Membership(
        None, {"cpu": "/c1", "memory": "/shim", "pids": "/", "name=systemd": "/c1", "devices": "/c1"}
    )
    ours = Membership(None, {"cpu": "/", "memory": "/shim", "pids": "/"})
    group = LegacyGroup.of(theirs, ours, HOST)
    assert group.directories == {"cpu": "/cg/cpu/c1", "name=systemd": "/cg/name=systemd/c1"}


def test_a_container_without_any():
    assert LegacyGroup.of(Membership(None, {"cpu": "/"}), Membership(None, {"cpu": "/"}), HOST) is None


def test_a_group_that_no_mount_shows_is_left_out():
    partial = Hierarchy("legacy", legacy={"cpu": Mount("/cg/cpu", "/docker"), "pids": Mount("/cg/pids")})
    theirs = Membership(None, {"cpu": "/elsewhere/c1", "pids": "/c1"})
    assert LegacyGroup.of(theirs, Membership(None, {}), partial).directories == {"pids": "/cg/pids/c1"}


@pytest.mark.parametrize(
    ("names", "main"),
    [(["cpu", "memory"], "memory"), (["name=systemd"], "name=systemd"), (["cpu", "pids"], "pids")],
)
def test_where_processes_are_looked_for(names, main):
    assert LegacyGroup({name: f"/cg/{name}" for name in names})._main == f"/cg/{main}"


@pytest.fixture
def group(leaks, legacy_group):
    return legacy_group()


@pytest.mark.root
class TestKernel:
    def test_pids_include_groups_below(self, group, inside):
        inner = {name: f"{directory}/inner" for name, directory in group.directories.items()}
        for directory in inner.values():
            os.mkdir(directory)
        expected = sorted(
            inside(["sleep", "100"], *where.values()).pid for where in (group.directories, inner)
        )
        assert group.pids() == expected

    @pytest.mark.parametrize(
        ("controllers", "frozen"),
        [(("pids", "freezer"), False), (("pids", "freezer"), True), (("pids",), False)],
    )
    def test_kill(self, group, inside, controllers, frozen):
        process = inside(["sleep", "100"], *group.directories.values())
        if frozen:
            freeze(group)
        LegacyGroup({name: group.directories[name] for name in controllers}).kill()
        assert process.wait(10) == -signal.SIGKILL
        assert not group.frozen()

    def test_kill_of_a_fork_bomb(self, group, inside, fork_bomb):
        tree.write_file(f"{group.directories['pids']}/pids.max", "50")
        bomb = inside(fork_bomb, *group.directories.values())
        while len(group.pids()) < 10:
            os.sched_yield()
        group.kill()
        assert bomb.wait(10) == -signal.SIGKILL
        while group.pids():
            os.sched_yield()

    def test_frozen_and_thawed(self, group, inside):
        inside(["sleep", "100"], *group.directories.values())
        assert not group.frozen()
        freeze(group)
        group.thaw()
        assert not group.frozen()

    def test_stats(self, group, inside):
        tree.write_file(f"{group.directories['memory']}/memory.limit_in_bytes", str(64 << 20))
        assert (
            inside(
                ["sh", "-c", "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done"], *group.directories.values()
            ).wait(60)
            == 0
        )
        inside(["sleep", "100"], *group.directories.values())
        with closing(group.gauge()) as gauge:
            found = gauge.read()
        assert found["memory"]["usage"]["limit"] == 64 << 20
        assert found["memory"]["usage"]["max"] > 0
        assert found["memory"]["hierarchical_memory_limit"] == 64 << 20
        assert found["cpu"]["usage"]["total"] > 0
        assert sum(found["cpu"]["usage"]["per_cpu"]) > 0
        assert not any(found["memory_oom_control"].values())
        if "pids.current" in os.listdir(group.directories["pids"]):
            assert found["pids"] == {"current": 1, "limit": 0}

    def test_a_group_that_is_gone(self, group):
        for directory in group.directories.values():
            os.rmdir(directory)
        assert group.pids() == []
        assert not group.frozen()
        group.thaw()
        group.kill()
        with closing(group.gauge()) as gauge:
            assert gauge.read()["memory"]["usage"]["usage"] == 0


def freeze(group):
    group._set_freezer("FROZEN")
    while not group.frozen():
        os.sched_yield()
