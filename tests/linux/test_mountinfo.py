import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.linux import mountinfo
from shim.linux.mountinfo import MountEntry

MANUAL = (
    "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
    "37 36 0:5 / /a\\040b\\134c\\011d\\012e\\043 ro,relatime shared:2 master:1 - tmpfs  rw\n"
    "38 36 0:6 / /plain rw - cgroup none rw,cpu,cpuacct\n"
)


def test_the_manuals_example_field_by_field():
    assert mountinfo.parse(MANUAL)[0] == MountEntry(
        36,
        35,
        "98:0",
        "/mnt1",
        "/mnt2",
        "rw,noatime",
        "ext3",
        "/dev/root",
        "rw,errors=continue",
        ("master:1",),
    )


def test_escaped_mount_points_and_empty_sources():
    entry = mountinfo.parse(MANUAL)[1]
    assert entry.mount_point == "/a b\\c\td\ne#"
    assert entry.source == ""
    assert entry.propagation == ("shared:2", "master:1")


def test_a_private_mount_has_no_propagation():
    assert mountinfo.parse(MANUAL)[2].propagation == ()


def test_a_short_line_is_an_error():
    with pytest.raises(ValueError):
        mountinfo.parse("36 35 98:0 /mnt1\n")


# Linux paths are bytes without NUL; mountinfo is read with surrogateescape.
paths = st.binary(min_size=1).filter(lambda raw: b"\0" not in raw).map(lambda raw: "/" + os.fsdecode(raw))


@given(paths)
def test_every_path_comes_back(path):
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in path)
    line = f"1 0 0:1 {escaped} {escaped} rw - tmpfs {escaped} rw\n"
    entry = mountinfo.parse(line)[0]
    assert entry.root == entry.mount_point == entry.source == path


def test_our_own_mounts():
    entries = mountinfo.read()
    assert any(entry.mount_point == "/proc" and entry.fs_type == "proc" for entry in entries)
