"""The parsers read directories of ordinary files here; test_group.py reads real groups."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.cgroup import stats
from shim.cgroup.files import GroupFiles
from shim.cgroup.stats import UNLIMITED, IoEntry, PsiData, PsiStats, RdmaEntry, Stats
from shim.cgroup.tree import read_file
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


def test_every_field_comes_from_its_file(group):
    found = stats.read(group())
    assert (found.pids.current, found.pids.limit) == (3, UNLIMITED)
    cpu = found.cpu
    assert (cpu.usage_usec, cpu.user_usec, cpu.system_usec) == (300, 200, 100)
    assert (cpu.nr_periods, cpu.nr_throttled, cpu.throttled_usec) == (7, 3, 4000)
    assert (cpu.nr_bursts, cpu.burst_usec) == (1, 2)
    assert cpu.psi == PsiStats(PsiData(1.5, 0.25, 0.01, 12345), PsiData(0.5, 0.05, 0.0, 678))
    memory = found.memory
    assert (memory.anon, memory.file, memory.slab, memory.pgfault) == (10, 20, 30, 6)
    assert (memory.usage, memory.usage_limit, memory.max_usage) == (1000, 2000, 1500)
    assert (memory.swap_usage, memory.swap_limit, memory.swap_max_usage) == (0, UNLIMITED, 50)
    assert memory.psi.some.total == 1
    events = found.memory_events
    assert (events.low, events.high, events.max) == (1, 2, 3)
    assert (events.oom, events.oom_kill, events.oom_group_kill) == (4, 5, 6)
    assert found.io.usage == (IoEntry(8, 0, 1, 2, 3, 4), IoEntry(253, 1))
    assert found.io.psi == cpu.psi
    assert found.rdma.current == (RdmaEntry("mlx5_0", 2, 3),)
    assert found.rdma.limit == (RdmaEntry("mlx5_0", (1 << 32) - 1, 1000),)
    assert found.hugetlb == (stats.HugetlbStat(2097152, UNLIMITED, "2MB", 8),)


def test_refaults_are_one_number_on_old_and_new_kernels(group):
    assert stats.read(group()).memory.workingset_refault == 9
    old = group(**{"memory.stat": "workingset_refault 7\nworkingset_activate 8\n"})
    assert stats.read(old).memory.workingset_refault == 7
    assert stats.read(old).memory.workingset_activate == 8


def test_missing_files_are_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(stats, "hugepage_sizes", lambda: ("2MB",))
    (tmp_path / "cgroup.controllers").write_text("cpu io memory hugetlb pids rdma\n")
    assert stats.read(str(tmp_path)) == Stats(hugetlb=(stats.HugetlbStat(0, 0, "2MB", 0),))


def test_files_of_disabled_controllers_are_not_opened(group):
    opened = []

    def noted(path):
        opened.append(path.rpartition("/")[2])
        return read_file(path)

    found = stats.read(group(**{"cgroup.controllers": "\n"}), noted)
    assert opened == ["cgroup.controllers", "cpu.pressure", "cpu.stat", "io.pressure"]
    assert found.cpu.usage_usec == 300
    assert found.memory.usage == 0


def test_empty_pressure_is_zero(group):
    assert stats.read(group(**{"cpu.pressure": ""})).cpu.psi == PsiStats()


def test_a_group_that_is_gone(tmp_path):
    with pytest.raises(NotFound, match="does not exist"):
        stats.read(str(tmp_path / "gone"))


def test_long_files_are_read_to_the_end(group):
    lines = "".join(f"{major}:0 rbytes=1 wbytes=2 rios=3 wios=4\n" for major in range(4000))
    assert len(stats.read(group(**{"io.stat": lines})).io.usage) == 4000


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


@given(st.dictionaries(st.sampled_from(sorted(stats._MEMORY_NAMES)), st.integers(0, UNLIMITED)))
def test_pairs_round_trip(values):
    content = b"".join(b"%s %d\n" % item for item in values.items())
    files = GroupFiles("", lambda _path: content, unlimited=0)
    selected = stats._select(files.pairs("memory.stat"), stats._MEMORY_NAMES)
    assert selected == {name.decode(): value for name, value in values.items()}
