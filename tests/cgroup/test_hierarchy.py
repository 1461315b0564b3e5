import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.cgroup import hierarchy
from shim.cgroup.hierarchy import Membership, Mount, parse_membership, survey
from shim.errors import FailedPrecondition, NotFound
from shim.linux import mountinfo

UNIFIED = """\
23 1 0:22 / /sys rw,nosuid - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:8 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,xattr,memory,release_agent=/bin/x
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
LEGACY = "".join(line for line in HYBRID.splitlines(keepends=True) if "cgroup2" not in line)
NAMED_ONLY = "".join(
    line for line in HYBRID.splitlines(keepends=True) if "cgroup2" in line or "systemd" in line
)
IN_CONTAINER = "31 23 0:28 /docker/c1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def surveyed(text):
    return survey(mountinfo.parse(text))


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (UNIFIED, "unified"),
        (HYBRID, "hybrid"),
        (LEGACY, "legacy"),
        (NAMED_ONLY, "unified"),
        (IN_CONTAINER, "unified"),
        ("23 1 0:22 / /sys rw - sysfs sysfs rw\n", "none"),
        ("", "none"),
    ],
)
def test_modes(text, mode):
    found = surveyed(text)
    assert found.mode == mode
    assert found.writes_limits == (mode == "unified")


def test_mounts_of_a_hybrid_host():
    found = surveyed(HYBRID)
    assert found.unified == Mount("/sys/fs/cgroup/unified")
    assert found.legacy == {
        "cpu": Mount("/sys/fs/cgroup/cpu,cpuacct"),
        "cpuacct": Mount("/sys/fs/cgroup/cpu,cpuacct"),
        "memory": Mount("/sys/fs/cgroup/memory"),
        "name=systemd": Mount("/sys/fs/cgroup/systemd"),
    }


def test_the_usual_mount_point_wins_over_others():
    found = surveyed("50 23 0:28 /x /mnt/cgroup rw - cgroup2 cgroup2 rw\n" + UNIFIED)
    assert found.unified == Mount("/sys/fs/cgroup")


def test_descriptions_name_what_is_there():
    assert surveyed("").describe() == "no cgroup hierarchy is mounted"
    assert surveyed(UNIFIED).describe() == "cgroup v2 at /sys/fs/cgroup, controllers: none"
    assert surveyed(LEGACY).describe() == "cgroup v1 (legacy), controllers: cpu cpuacct memory"
    assert surveyed(HYBRID).describe().endswith("cgroup v2 without them at /sys/fs/cgroup/unified")


@pytest.mark.parametrize(
    ("mount", "path", "directory"),
    [
        (Mount("/sys/fs/cgroup"), "/", "/sys/fs/cgroup"),
        (Mount("/sys/fs/cgroup"), "/a/b", "/sys/fs/cgroup/a/b"),
        (Mount("/sys/fs/cgroup", "/docker/c1"), "/docker/c1", "/sys/fs/cgroup"),
        (Mount("/sys/fs/cgroup", "/docker/c1"), "/docker/c1/x", "/sys/fs/cgroup/x"),
    ],
)
def test_directories(mount, path, directory):
    assert mount.directory(path) == directory


@pytest.mark.parametrize(
    ("root", "path"), [("/docker/c1", "/docker/c12"), ("/docker/c1", "/"), ("/", "/../x"), ("/", "/a/../b")]
)
def test_groups_that_the_mount_does_not_show(root, path):
    with pytest.raises(FailedPrecondition, match="not visible"):
        Mount("/sys/fs/cgroup", root).directory(path)


def test_membership_unified():
    assert parse_membership("0::/user.slice/a:b c\n") == Membership("/user.slice/a:b c", {})


def test_membership_hybrid():
    text = "9:name=systemd:/s\n4:memory:/m\n2:cpu,cpuacct:/c\n0::/u\n"
    assert parse_membership(text) == Membership(
        "/u", {"name=systemd": "/s", "memory": "/m", "cpu": "/c", "cpuacct": "/c"}
    )


def test_membership_without_v2():
    assert parse_membership("4:memory:/m\n").unified is None


def test_a_short_line_of_membership_is_an_error():
    with pytest.raises(ValueError):
        parse_membership("4:memory\n")


names = st.binary(min_size=1).filter(lambda raw: not set(raw) & {0, 10}).map(os.fsdecode)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,10}", fullmatch=True), names, max_size=5), names)
def test_every_path_comes_back(legacy, unified):
    """Group names are any bytes but NUL, newline and slash; colons and carriage returns included."""
    lines = [f"{number}:{name}:/{path}\n" for number, (name, path) in enumerate(legacy.items(), 1)]
    found = parse_membership("".join(lines) + f"0::/{unified}\n")
    assert found.unified == f"/{unified}"
    assert found.legacy == {name: f"/{path}" for name, path in legacy.items()}


def test_our_own_groups():
    found = hierarchy.membership_of("self")
    assert found == hierarchy.membership_of(os.getpid())
    assert found.unified or found.legacy


def test_a_process_that_does_not_exist():
    with pytest.raises(NotFound, match="process 4194304 does not exist"):
        hierarchy.membership_of(4194304)


def test_detect_agrees_with_the_mounts():
    found = hierarchy.detect()
    assert found.mode != "none"
    if found.unified:
        with open(f"{found.unified.mount_point}/cgroup.controllers") as file:
            assert found.controllers == set(file.read().split())
