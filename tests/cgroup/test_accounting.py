import os

import pytest

from shim.cgroup import accounting
from shim.cgroup.accounting import group_of
from shim.cgroup.group import Group
from shim.cgroup.hierarchy import Hierarchy, Membership, Mount
from shim.cgroup.legacy import LegacyGroup
from shim.errors import NotFound

UNIFIED = Hierarchy("unified", Mount("/sys/fs/cgroup"))
HYBRID = Hierarchy(
    "hybrid", Mount("/sys/fs/cgroup/unified"), legacy={"memory": Mount("/sys/fs/cgroup/memory")}
)


@pytest.fixture
def members(monkeypatch):
    def place(theirs, ours):
        answers = {"self": ours, 7: theirs}
        monkeypatch.setattr(accounting, "membership_of", answers.__getitem__)

    return place


def test_v2(members):
    members(Membership("/pod/c1", {}), Membership("/shim", {}))
    group = group_of(7, UNIFIED)
    assert isinstance(group, Group)
    assert (group.path, group.directory) == ("/pod/c1", "/sys/fs/cgroup/pod/c1")


def test_v2_in_a_container_that_sees_a_part(members):
    members(Membership("/docker/x/pod/c1", {}), Membership("/docker/x", {}))
    group = group_of(7, Hierarchy("unified", Mount("/sys/fs/cgroup", "/docker/x")))
    assert (group.path, group.directory) == ("/pod/c1", "/sys/fs/cgroup/pod/c1")


@pytest.mark.parametrize("theirs", ["/", "/shim", "/shim/..", "/../elsewhere"])
def test_v2_without_a_group_of_its_own(members, theirs):
    members(Membership(theirs, {}), Membership("/shim", {}))
    assert group_of(7, UNIFIED) is None


def test_hybrid(members):
    members(Membership("/c1", {"memory": "/c1"}), Membership("/", {"memory": "/"}))
    group = group_of(7, HYBRID)
    assert isinstance(group, LegacyGroup)
    assert group.directories == {"memory": "/sys/fs/cgroup/memory/c1"}


def test_hybrid_without_a_group_of_its_own(members):
    members(Membership("/c1", {"memory": "/"}), Membership("/", {"memory": "/"}))
    assert group_of(7, HYBRID) is None


def test_nothing_is_mounted(members):
    members(Membership("/c1", {"memory": "/c1"}), Membership("/", {}))
    assert group_of(7, Hierarchy("none")) is None


def test_our_own_group_is_not_a_containers(hierarchy):
    assert group_of(os.getpid(), hierarchy) is None


def test_no_such_process(hierarchy):
    with pytest.raises(NotFound):
        group_of(4194304, hierarchy)


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_a_real_v1_container(hierarchy, legacy_group, inside):
    expected = legacy_group()
    process = inside(["sleep", "100"], *expected.directories.values())
    group = group_of(process.pid, hierarchy)
    assert group.directories.items() >= expected.directories.items()
    assert group.pids() == [process.pid]


@pytest.mark.root
@pytest.mark.cgroup2
@pytest.mark.usefixtures("leaks")
def test_a_real_v2_container(hierarchy, parent, inside):
    expected = Group.create(hierarchy, f"{parent}/c1")
    process = inside(["sleep", "100"], expected.directory)
    group = group_of(process.pid, hierarchy)
    assert group.directory == expected.directory
    assert group.pids() == [process.pid]
