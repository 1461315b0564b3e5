"""What can be registered as a runtime, and what is said of what cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.catalog import PluginRuntime
from shim.catalog.runtimes import validate_type
from shim.errors import InvalidArgument

BEST = 2**63 - 1


def registered(**members):
    runtime, unknown = PluginRuntime.from_input("r1", members)
    assert unknown == []
    return runtime


def refused(**members):
    with pytest.raises(InvalidArgument) as raised:
        PluginRuntime.from_input("r1", members)
    return str(raised.value)


def test_the_sample_of_vaults_documentation():
    runtime = registered(
        oci_runtime="example-oci-runtime",
        cgroup_parent="/examplelimit/",
        cpu_nanos=1000,
        memory_bytes=10_000_000,
    )
    assert runtime.to_data() == {
        "name": "r1",
        "type": "container",
        "oci_runtime": "example-oci-runtime",
        "cgroup_parent": "/examplelimit/",
        "cpu_nanos": 1000,
        "memory_bytes": 10_000_000,
        "rootless": False,
    }
    assert PluginRuntime.from_data(runtime.to_data()) == runtime


def test_nothing_given_is_everything_empty_and_the_default_is_not_stored():
    assert registered() == PluginRuntime("r1")
    assert registered().to_data()["oci_runtime"] == ""
    assert registered().binary == "runsc"
    assert registered(oci_runtime="crun").binary == "crun"
    assert registered(oci_runtime=None, cpu_nanos=None, rootless=None) == PluginRuntime("r1")


def test_name_and_type_in_the_body_do_not_count():
    assert registered(name="other", type=1) == PluginRuntime("r1")
    assert registered(name=["x"], type="nonsense") == PluginRuntime("r1")


def test_what_means_nothing_is_reported():
    runtime, unknown = PluginRuntime.from_input("r1", {"b": 1, "cpu_nanos": 5, "a": None, "Memory": 3})
    assert runtime == PluginRuntime("r1", cpu_nanos=5)
    assert unknown == ["Memory", "a", "b"]


@pytest.mark.parametrize(("cpu", "memory"), [("cpu_nanos", "memory_bytes"), ("cpu", "memory")])
@pytest.mark.parametrize(
    ("given", "meant"), [(0, 0), (7, 7), ("7", 7), ("+7", 7), ("0", 0), (BEST, BEST), (str(BEST), BEST)]
)
def test_integers_are_numbers_or_digits_under_both_names(cpu, memory, given, meant):
    runtime = registered(**{cpu: given, memory: given})
    assert (runtime.cpu_nanos, runtime.memory_bytes) == (meant, meant)


def test_two_names_of_one_may_agree_but_not_differ():
    assert registered(cpu=5, cpu_nanos=5).cpu_nanos == 5
    assert refused(cpu=5, cpu_nanos=6) == 'fields "cpu_nanos" and "cpu" are two names of one, and differ'


@pytest.mark.parametrize("value", [-1, "-1", -BEST - 1])
def test_negative_ones_are_refused_with_vaults_texts(value):
    assert refused(cpu_nanos=value) == refused(cpu=value) == "runtime cpu in nanos cannot be negative"
    assert refused(memory_bytes=value) == "runtime memory in bytes cannot be negative"


@pytest.mark.parametrize(
    "value",
    ["abc", "", "010", "-07", " 5", "5 ", "5.0", "0x10", "1e3", "٣", "--5", 5.0, 1e300, True, [5], {}],
)
@pytest.mark.parametrize("field", ["cpu_nanos", "memory_bytes", "memory"])
def test_what_is_no_integer_is_refused(field, value):
    assert refused(**{field: value}).endswith(f'for field "{field}": an integer is needed')


@pytest.mark.parametrize("value", [BEST + 1, -BEST - 2, str(BEST + 1), 10**29, "9" * 30])
def test_integers_of_more_than_64_bits_are_refused(value):
    assert refused(cpu_nanos=value).endswith('for field "cpu_nanos": it does not fit into 64 bits')


@pytest.mark.parametrize("field", ["oci_runtime", "cgroup_parent"])
def test_a_text_has_an_end(field):
    assert getattr(registered(**{field: "é" * 2048}), field) == "é" * 2048
    assert refused(**{field: "é" * 2048 + "a"}).endswith(f'for field "{field}": it has more than 4096 bytes')


def test_endless_digits_are_no_integer_and_are_not_repeated():
    assert len(refused(cpu_nanos="9" * 100_000)) < 200


@pytest.mark.parametrize("field", ["oci_runtime", "cgroup_parent"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, "a text is needed"),
        (True, "a text is needed"),
        (["runc"], "a text is needed"),
        ({}, "a text is needed"),
        ("a\0b", "it has control characters"),
        ("a\nb", "it has control characters"),
        ("\x7f", "it has control characters"),
        ("\ud800", "it has control characters"),
    ],
)
def test_what_is_no_line_of_text_is_refused(field, value, why):
    assert refused(**{field: value}).endswith(f'for field "{field}": {why}')


@pytest.mark.parametrize("path", ["..", "/a/../b", "../a", "/a/.."])
def test_a_parent_that_escapes_is_refused(path):
    assert "must not contain '..'" in refused(cgroup_parent=path)


def test_two_dots_in_a_name_are_a_name():
    assert registered(cgroup_parent="/a..b/..c").cgroup_parent == "/a..b/..c"


@pytest.mark.parametrize(
    ("given", "meant"), [(True, True), (False, False), ("true", True), ("0", False), ("F", False)]
)
def test_rootless_is_true_or_false(given, meant):
    assert registered(rootless=given).rootless is meant


@pytest.mark.parametrize("value", ["yes", "", 1, 0, [True]])
def test_what_is_neither_is_refused(value):
    assert refused(rootless=value).endswith('for field "rootless": true or false is needed')


@pytest.mark.parametrize("name", ["a", "_", "7", "a-b.c_d", "A" * 256, "example-plugin-runtime"])
def test_names(name):
    assert PluginRuntime.from_input(name, {})[0].name == name


@pytest.mark.parametrize(
    "name", [".", "..", "-a", "a-", "a.", ".a", "a/b", "../a", "a b", "ä", "a\n", "a\0", "A" * 257, "٣"]
)
def test_what_is_no_name(name):
    with pytest.raises(InvalidArgument, match=r"plugin runtime name .*: use letters"):
        PluginRuntime.from_input(name, {})


def test_what_is_missing():
    with pytest.raises(InvalidArgument, match=r"^missing plugin runtime name$"):
        PluginRuntime.from_input("", {})
    with pytest.raises(InvalidArgument, match=r"^missing plugin runtime type$"):
        validate_type("")
    with pytest.raises(InvalidArgument, match=r'^"vm" is not a supported plugin runtime type$'):
        validate_type("vm")
    assert validate_type("container") == "container"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    [
        "oci_runtime",
        "cgroup_parent",
        "cpu_nanos",
        "cpu",
        "memory_bytes",
        "memory",
        "rootless",
        "name",
        "type",
        "x",
    ]
)


@given(name=st.text(max_size=8), body=st.dictionaries(FIELDS, JSON))
def test_anything_is_a_runtime_or_an_error_of_one_line(name, body):
    runtime, unknown, said = PluginRuntime("r1"), sorted(body.keys() & {"x"}), ""
    try:
        runtime, unknown = PluginRuntime.from_input(name, body)
    except InvalidArgument as error:
        said = str(error)
    assert unknown == sorted(body.keys() & {"x"})
    assert PluginRuntime.from_data(runtime.to_data()) == runtime
    assert 0 <= runtime.cpu_nanos <= BEST
    assert len(said.encode()) < 1000
    assert "\n" not in said
