"""The parsers read directories of ordinary files here; test_legacy.py reads real groups."""

import pytest

from shim.cgroup import legacy_stats
from shim.cgroup.legacy_stats import BlkioEntry, CpuUsage, MemoryEntry, OomControl, Stats, Throttle
from shim.cgroup.stats import PidsStat, RdmaEntry

FILES = {
    "cpuacct.usage": "1000\n",
    "cpuacct.usage_sys": "400\n",
    "cpuacct.usage_user": "600\n",
    "cpuacct.usage_percpu": "300 700 \n",
    "cpu.stat": "nr_periods 1\nnr_throttled 2\nthrottled_time 3\nnr_bursts 0\nburst_time 0\n",
    "pids.current": "5\n",
    "pids.max": "max\n",
    "memory.stat": (
        "cache 1\nrss 2\nshmem 99\npgpgin 7\npgmajfault 8\nhierarchical_memory_limit 9\n"
        "hierarchical_memsw_limit 10\ntotal_cache 11\ntotal_pgfault 12\ntotal_inactive_file 13\n"
    ),
    "memory.limit_in_bytes": "100\n",
    "memory.usage_in_bytes": "50\n",
    "memory.max_usage_in_bytes": "70\n",
    "memory.failcnt": "4\n",
    "memory.memsw.usage_in_bytes": "51\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 1\noom_kill 6\n",
    "blkio.throttle.io_service_bytes_recursive": "999:0 Read 4096\n999:0 Write 0\nTotal 4096\n",
    "blkio.throttle.io_serviced_recursive": "Total 0\n",
    "rdma.current": "mlx5_0 hca_handle=2 hca_object=3\n",
    "rdma.max": "",
    "hugetlb.2MB.usage_in_bytes": "1\n",
    "hugetlb.2MB.max_usage_in_bytes": "2\n",
    "hugetlb.2MB.failcnt": "3\n",
}
CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio", "rdma", "hugetlb")


@pytest.fixture
def directories(tmp_path, monkeypatch):
    monkeypatch.setattr(legacy_stats, "hugepage_sizes", lambda: ("2MB",))
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return dict.fromkeys(CONTROLLERS, str(tmp_path))


def test_every_field_comes_from_its_file(directories):
    found = legacy_stats.read(directories)
    assert found.cpu.usage == CpuUsage(1000, 400, 600, (300, 700))
    assert found.cpu.throttling == Throttle(1, 2, 3)
    assert found.pids == PidsStat(5, 0)
    memory = found.memory
    assert (memory.cache, memory.rss, memory.pg_pg_in, memory.pg_maj_fault) == (1, 2, 7, 8)
    assert (memory.hierarchical_memory_limit, memory.hierarchical_swap_limit) == (9, 10)
    assert (memory.total_cache, memory.total_pg_fault, memory.total_inactive_file) == (11, 12, 13)
    assert memory.usage == MemoryEntry(100, 50, 70, 4)
    assert memory.swap == MemoryEntry(usage=51)
    assert found.memory_oom_control == OomControl(0, 1, 6)
    # A device that does not exist has no name.
    assert found.blkio.io_service_bytes_recursive == (
        BlkioEntry("Read", "", 999, 0, 4096),
        BlkioEntry("Write", "", 999, 0, 0),
    )
    assert found.rdma.current == (RdmaEntry("mlx5_0", 2, 3),)
    assert found.hugetlb == (legacy_stats.HugetlbStat(1, 2, 3, "2MB"),)


def test_only_groups_of_its_own_are_read(directories):
    found = legacy_stats.read({"pids": directories["pids"]})
    assert found == Stats(pids=PidsStat(5, 0))


def test_a_group_that_is_gone_counts_as_zeros(tmp_path):
    gone = dict.fromkeys(("cpu", "cpuacct", "memory", "pids", "blkio", "rdma"), str(tmp_path / "gone"))
    assert legacy_stats.read(gone) == Stats()
