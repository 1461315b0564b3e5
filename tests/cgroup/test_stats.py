"""The parsers read directories of ordinary files here; test_group.py reads real groups."""

import os
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.cgroup import stats
from shim.cgroup.stats import UNLIMITED, Gauge
from shim.errors import NotFound

PRESSURE = (
    "some avg10=1.50 avg60=0.25 avg300=0.01 total=12345\nfull avg10=0.50 avg60=0.05 avg300=0.00 total=678\n"
)
FILES = {
    "cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma\n",
    "cpu.stat": (
        "usage_usec 300\nuser_usec 200\nsystem_usec 100\nnice_usec 5\ncore_sched.force_idle_usec 0\n"
        "nr_periods 7\nnr_throttled 3\nthrottled_usec 4000\nnr_bursts 1\nburst_usec 2\n"
    ),
    "cpu.pressure": PRESSURE,
    "memory.stat": "anon 10\nfile 20\nslab 30\nworkingset_refault_anon 4\nworkingset_refault_file 5\npgfault 6\nnew_name 9\n",
    "memory.current": "1000\n",
    "memory.max": "2000\n",
    "memory.peak": "1500\n",
    "memory.swap.current": "0\n",
    "memory.swap.max": "max\n",
    "memory.swap.peak": "50\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    "memory.events": "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\nsock_throttled 7\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1\n",
    "io.pressure": PRESSURE,
    "rdma.current": "mlx5_0 hca_handle=2 hca_object=3\n",
    "rdma.max": "mlx5_0 hca_handle=max hca_object=1000\n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.events": "max 8\n",
}


@pytest.fixture
def group(tmp_path, monkeypatch):
    monkeypatch.setattr(stats, "hugepage_sizes", lambda: ("2MB",))

    def make(**changes):
        for name, content in {**FILES, **changes}.items():
            (tmp_path / name).write_text(content)
        return str(tmp_path)

    return make


def read(directory: str) -> stats.Stats:
    with closing(Gauge(directory)) as gauge:
        return gauge.read()


def test_every_field_comes_from_its_file(group):
    found = read(group())
    psi = {
        "some": {"avg10": 1.5, "avg60": 0.25, "avg300": 0.01, "total": 12345},
        "full": {"avg10": 0.5, "avg60": 0.05, "avg300": 0.0, "total": 678},
    }
    assert found["pids"] == {"current": 3, "limit": UNLIMITED}
    assert found["cpu"] == {
        "usage_usec": 300,
        "user_usec": 200,
        "system_usec": 100,
        "nr_periods": 7,
        "nr_throttled": 3,
        "throttled_usec": 4000,
        "nr_bursts": 1,
        "burst_usec": 2,
        "psi": psi,
    }
    assert found["memory"] == {
        "anon": 10,
        "file": 20,
        "slab": 30,
        "pgfault": 6,
        "workingset_refault": 9,
        "workingset_activate": 0,
        "usage": 1000,
        "usage_limit": 2000,
        "max_usage": 1500,
        "swap_usage": 0,
        "swap_limit": UNLIMITED,
        "swap_max_usage": 50,
        "psi": {"some": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 1}},
    }
    assert found["memory_events"] == {
        "low": 1,
        "high": 2,
        "max": 3,
        "oom": 4,
        "oom_kill": 5,
        "oom_group_kill": 6,
    }
    assert found["io"] == {
        "usage": [
            {"major": 8, "minor": 0, "rbytes": 1, "wbytes": 2, "rios": 3, "wios": 4},
            {"major": 253, "minor": 1},
        ],
        "psi": psi,
    }
    assert found["rdma"] == {
        "current": [{"device": "mlx5_0", "hca_handles": 2, "hca_objects": 3}],
        "limit": [{"device": "mlx5_0", "hca_handles": (1 << 32) - 1, "hca_objects": 1000}],
    }
    assert found["hugetlb"] == [{"pagesize": "2MB", "current": 2097152, "max": UNLIMITED, "failcnt": 8}]


def test_refaults_are_one_number_on_old_and_new_kernels(group):
    assert read(group())["memory"]["workingset_refault"] == 9
    old = read(group(**{"memory.stat": "workingset_refault 7\nworkingset_activate 8\n"}))["memory"]
    assert (old["workingset_refault"], old["workingset_activate"]) == (7, 8)


def test_missing_files_are_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(stats, "hugepage_sizes", lambda: ("2MB",))
    (tmp_path / "cgroup.controllers").write_text("cpu io memory hugetlb pids rdma\n")
    found = read(str(tmp_path))
    assert list(found) == ["cpu", "io", "pids", "memory", "memory_events", "rdma", "hugetlb"]
    assert not any(numbers(found))


def numbers(value):
    """All of them, in whatever they are."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [] if isinstance(value, str) else [value]


def test_files_of_disabled_controllers_are_not_opened(group):
    with closing(Gauge(group(**{"cgroup.controllers": ""}))) as gauge:
        found = gauge.read()
        opened = {os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in gauge.files._fds.values()}
    assert opened == {"cgroup.controllers", "cpu.pressure", "cpu.stat", "io.pressure"}
    assert found["cpu"]["usage_usec"] == 300
    assert "memory" not in found


def test_every_read_is_of_what_is_there_now(group):
    directory = group()
    with closing(Gauge(directory)) as gauge:
        gauge.read()
        group(**{"memory.current": "77\n", "pids.max": "9\n"})
        found = gauge.read()
    assert (found["memory"]["usage"], found["pids"]["limit"]) == (77, 9)


def test_a_controller_that_comes_and_goes(group):
    directory = group(**{"cgroup.controllers": "memory\n"})
    with closing(Gauge(directory)) as gauge:
        for controllers, there in (("", False), ("memory pids\n", True)):
            group(**{"cgroup.controllers": controllers})
            assert ("pids" in gauge.read()) is there


def test_empty_pressure_is_zero(group):
    assert read(group(**{"cpu.pressure": ""}))["cpu"]["psi"] == {}


def test_a_group_that_is_gone(tmp_path):
    with pytest.raises(NotFound, match="does not exist"):
        read(str(tmp_path / "gone"))


def test_long_files_are_read_to_the_end(group):
    lines = "".join(f"{major}:0 rbytes=1 wbytes=2 rios=3 wios=4\n" for major in range(4000))
    assert len(read(group(**{"io.stat": lines}))["io"]["usage"]) == 4000


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (["hugepages-1048576kB", "hugepages-2048kB"], ("1GB", "2MB")),
        (["hugepages-64kB", "hugepages-16777216kB"], ("16GB", "64KB")),
        ([], ()),
    ],
)
def test_huge_page_sizes_are_spelt_as_in_file_names(monkeypatch, names, sizes):
    monkeypatch.setattr(stats.os, "listdir", lambda _: names)
    assert stats.hugepage_sizes.__wrapped__() == sizes


@given(st.dictionaries(st.sampled_from(sorted(stats._MEMORY_KEYS)), st.integers(0, UNLIMITED)))
def test_numbers_round_trip(values):
    pairs = {key: b"%d" % value for key, value in values.items()}
    assert stats.chosen(pairs, stats._MEMORY_KEYS) == {k.decode(): v for k, v in values.items()}
