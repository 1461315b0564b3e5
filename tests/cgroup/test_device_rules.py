"""Rules for devices of a running container: the pieces of program, and a real group of each version."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import bed

from shim.cgroup.device_rules import DeviceRule, DeviceRules, allowing, denying
from shim.errors import InvalidArgument
from shim.linux import bpf
from shim.linux.fd import OwnedFd

rules = st.builds(
    DeviceRule,
    st.sampled_from("bc"),
    st.integers(0, (1 << 12) - 1),
    st.integers(0, (1 << 20) - 1),
    st.sampled_from(["r", "w", "m", "rw", "rwm", "mr"]),
)
programs = st.lists(
    st.builds(bpf.INSTRUCTION.pack, st.integers(0, 255), st.integers(0, 255), st.just(0), st.integers(0, 9)),
    min_size=1,
).map(b"".join)

NULL = DeviceRule("c", 1, 3)
ZERO = DeviceRule("c", 1, 5, "r")
URANDOM = DeviceRule("c", 1, 9, "rw")


@given(programs, st.lists(rules, unique=True, max_size=5), st.randoms())
def test_pieces_are_taken_out_in_any_order(program, several, random):
    changed = program
    for rule in several:
        changed = allowing(changed, rule)
        assert allowing(changed, rule) == changed
    random.shuffle(several)
    for rule in several:
        assert denying(changed, rule) != changed
        changed = denying(changed, rule)
    assert changed == program


@pytest.mark.parametrize(
    "members",
    [("p", 1, 3), ("c", -1, 3), ("c", 1, -1), ("c", 1 << 12, 0), ("c", 0, 1 << 20), ("c", 1, 3, ""), ("c", 1, 3, "rx"),
     ("c", 1, 3, "rr"), ("c", 1, 3, "rwr")],
)  # fmt: skip
def test_what_can_never_work_is_refused(members):
    with pytest.raises(InvalidArgument, match="device"):
        DeviceRule(*members)


def can_open(cgroup_procs: str, path: str, how: str = "<") -> bool:
    script = f'echo $$ > "{cgroup_procs}" && exec 3{how}"{path}"'
    return subprocess.run(["sh", "-c", script], capture_output=True, check=False).returncode == 0


# Allows /dev/null for whatever access, and nothing else, as a runtime would.
ONLY_NULL = b"".join(
    bpf.INSTRUCTION.pack(*instruction)
    for instruction in [
        (0x61, 0x12, 4, 0), (0x55, 0x02, 4, 1), (0x61, 0x12, 8, 0), (0x55, 0x02, 2, 3),
        (0xB7, 0, 0, 1), (0x95, 0, 0, 0), (0xB7, 0, 0, 0), (0x95, 0, 0, 0),
    ]
)  # fmt: skip


@pytest.mark.root
@pytest.mark.cgroup2
def test_programs_of_a_group(leaks):
    directory = bed.CGROUP / "ocishim-test-devices"
    directory.mkdir()
    procs = f"{directory}/cgroup.procs"
    try:
        with OwnedFd(os.open(directory, os.O_RDONLY)) as group:
            with bpf.load_device_program(ONLY_NULL) as program:
                bpf.attach_device_program(group.fileno(), program.fileno())
            rules = DeviceRules(str(directory), unified=True)
            assert [can_open(procs, f"/dev/{name}") for name in ("null", "zero", "urandom")] == [
                True,
                False,
                False,
            ]
            assert rules.allow(ZERO)
            assert rules.allow(ZERO)
            assert rules.allow(URANDOM)
            assert [can_open(procs, f"/dev/{name}") for name in ("null", "zero", "urandom")] == [True] * 3
            assert not can_open(procs, "/dev/zero", ">")
            assert can_open(procs, "/dev/urandom", ">")
            assert not can_open(procs, "/dev/full")
            rules.deny(ZERO)
            rules.deny(ZERO)
            assert [can_open(procs, f"/dev/{name}") for name in ("null", "zero", "urandom")] == [
                True,
                False,
                True,
            ]
            rules.deny(URANDOM)
            (left,) = bpf.attached_device_programs(group.fileno())
            with left:
                assert bpf.instructions_of(left.fileno()) == ONLY_NULL
    finally:
        directory.rmdir()


@pytest.mark.root
@pytest.mark.cgroup2
def test_a_program_that_the_kernel_refuses():
    with pytest.raises(OSError) as raised:
        bpf.load_device_program(bpf.INSTRUCTION.pack(0xB7, 0, 0, 1))
    assert raised.value.errno == errno.EINVAL


# Where there is no such controller the rules are programs, which have their own test.
V1 = bed.CGROUP / "devices"


@pytest.mark.root
@pytest.mark.parametrize("top", [V1] if V1.is_dir() else [])
def test_files_of_a_group_of_version_1(top, leaks):
    directory = top / "ocishim-test-devices"
    directory.mkdir()
    procs = f"{directory}/cgroup.procs"
    try:
        (directory / "devices.deny").write_text("a")
        (directory / "devices.allow").write_text("c 1:3 rwm")
        rules = DeviceRules(str(directory), unified=False)
        assert not can_open(procs, "/dev/zero")
        assert rules.allow(ZERO)
        assert not rules.allow(ZERO)
        assert not rules.allow(NULL)
        assert can_open(procs, "/dev/zero")
        assert not can_open(procs, "/dev/zero", ">")
        rules.deny(ZERO)
        assert not can_open(procs, "/dev/zero")
        assert can_open(procs, "/dev/null")
    finally:
        directory.rmdir()
