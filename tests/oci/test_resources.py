import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.oci.resources import merge, parse, parse_cpus, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64MiB", 64 << 20),
        ("64 mb", 64 << 20),
        ("1.5g", 3 << 29),
        ("0.3k", 307),
        ("10b", 10),
        (" 1t ", 1 << 40),
        ("7e", 7 << 60),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1.m", ".5g", "64x", "64mm", "1e3", "1_000", "0x10", "nan", "٣", "64m\n1", "1,5g"]
)
def test_no_sizes(text):
    with pytest.raises(InvalidArgument, match=re.escape(f"memory size {text!r} is not a number of bytes")):
        parse_size(text)


@pytest.mark.parametrize("text", ["8e", "9223372036854775808", "9" * 400])
def test_sizes_that_nothing_can_hold(text):
    with pytest.raises(InvalidArgument, match="is more than 9223372036854775807 bytes"):
        parse_size(text)


@given(number=st.integers(0, 2**20), unit=st.sampled_from(["", "k", "m", "g"]))
def test_units_are_powers_of_1024(number, unit):
    assert parse_size(f"{number}{unit}") == number * 1024 ** ("", "k", "m", "g").index(unit)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("1", 10**9), ("1.5", 1_500_000_000), ("0.25", 250_000_000), (".5", 500_000_000), ("0.000000001", 1)],
)
def test_cpus(text, nanos):
    assert parse_cpus(text) == nanos


@given(nanos=st.integers(1, 10**15 - 1))
def test_every_billionth_of_a_cpu_is_exact(nanos):
    assert parse_cpus(f"{Decimal(nanos) / 10**9:f}") == nanos


@pytest.mark.parametrize(
    "text", ["", "0", "0.0", "-1", "1e3", "nan", "inf", "1,5", "all", "0.0000000001", "9999999"]
)
def test_no_cpus(text):
    with pytest.raises(InvalidArgument, match=re.escape(f"number of CPUs {text!r} is not a number above 0")):
        parse_cpus(text)


def test_merge_is_deep_and_leaves_its_arguments_alone():
    base = {"memory": {"limit": 1, "swap": 2}, "devices": [1, 2], "pids": {"limit": 5}}
    over = {"memory": {"limit": 9}, "devices": [3], "cpu": {"quota": 1}}
    merged = merge(base, over)
    assert merged == {
        "memory": {"limit": 9, "swap": 2},
        "devices": [3],
        "pids": {"limit": 5},
        "cpu": {"quota": 1},
    }
    assert base == {"memory": {"limit": 1, "swap": 2}, "devices": [1, 2], "pids": {"limit": 5}}


TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=6
).filter(lambda tree: isinstance(tree, dict))


@given(base=TREES, over=TREES)
def test_merge_laws(base, over):
    assert merge(base, {}) == base
    assert merge({}, over) == over
    assert merge(merge(base, over), over) == merge(base, over)


def test_resources_of_a_request():
    assert parse(b'{"memory": {"limit": -1}, "unified": {"memory.high": "max"}}', "update") == {
        "memory": {"limit": -1},
        "unified": {"memory.high": "max"},
    }


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"memory": {"limit": "64m"}}', 'update: memory.limit must be a whole number from .*, got "64m"'),
        (b'{"cpu": {"shares": -1}}', "update: cpu.shares must be a whole number from 0 to"),
        (b'{"pids": 5}', "update: pids must be an object, got 5"),
        (b'{"unified": {"memory.high": 5}}', r'update: unified\["memory.high"\] must be a string, got 5'),
        (b'{"devices": [{"access": "rwm"}]}', r"update: devices\[0\].allow is missing"),
        (
            b'{"devices": [{"allow": true, "access": "x"}]}',
            r"devices\[0\].access must be some of the letters",
        ),
        (b'{"hugepageLimits": [{"pageSize": "2MB"}]}', r"hugepageLimits\[0\].limit is missing"),
        (b'{"blockIO": {"weight": 65536}}', "blockIO.weight must be a whole number from 0 to 65535"),
    ],
)
def test_broken_resources(data, text):
    with pytest.raises(InvalidArgument, match=text):
        parse(data, "update")
