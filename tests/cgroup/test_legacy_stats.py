"""The parsers read directories of ordinary files here; test_legacy.py reads real groups."""

from contextlib import closing

import pytest

from shim.cgroup import legacy_stats
from shim.cgroup.legacy_stats import Gauge, OomControl

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


def read(directories):
    with closing(Gauge(directories)) as gauge:
        return gauge.read()


def test_every_field_comes_from_its_file(directories):
    found = read(directories)
    assert found["cpu"] == {
        "usage": {"total": 1000, "kernel": 400, "user": 600, "per_cpu": [300, 700]},
        "throttling": {"periods": 1, "throttled_periods": 2, "throttled_time": 3},
    }
    assert found["pids"] == {"current": 5, "limit": 0}
    none = {"limit": 0, "usage": 0, "max": 0, "failcnt": 0}
    assert found["memory"] == {
        "cache": 1,
        "rss": 2,
        "pg_pg_in": 7,
        "pg_maj_fault": 8,
        "hierarchical_memory_limit": 9,
        "hierarchical_swap_limit": 10,
        "total_cache": 11,
        "total_pg_fault": 12,
        "total_inactive_file": 13,
        "usage": {"limit": 100, "usage": 50, "max": 70, "failcnt": 4},
        "swap": {**none, "usage": 51},
        "kernel": none,
        "kernel_tcp": none,
    }
    assert found["memory_oom_control"] == {"oom_kill_disable": 0, "under_oom": 1, "oom_kill": 6}
    # A device that does not exist has no name.
    device = {"device": "", "major": 999, "minor": 0}
    assert found["blkio"] == {
        "io_service_bytes_recursive": [
            {"op": "Read", **device, "value": 4096},
            {"op": "Write", **device, "value": 0},
        ],
        "io_serviced_recursive": [],
    }
    assert found["rdma"] == {
        "current": [{"device": "mlx5_0", "hca_handles": 2, "hca_objects": 3}],
        "limit": [],
    }
    assert found["hugetlb"] == [{"pagesize": "2MB", "usage": 1, "max": 2, "failcnt": 3}]


def test_only_groups_of_its_own_are_read(directories):
    found = read({"pids": directories["pids"], "freezer": directories["pids"]})
    assert found == {"cpu": {}, "pids": {"current": 5, "limit": 0}}


def test_a_group_that_is_gone_counts_as_zeros(tmp_path):
    gone = dict.fromkeys(("cpu", "cpuacct", "memory", "pids", "blkio", "rdma"), str(tmp_path / "gone"))
    found = read(gone)
    assert found["pids"] == {"current": 0, "limit": 0}
    assert found["cpu"]["usage"] == {"total": 0, "kernel": 0, "user": 0, "per_cpu": []}
    assert found["memory"]["usage"] == {"limit": 0, "usage": 0, "max": 0, "failcnt": 0}


def test_oom_control():
    assert legacy_stats.oom_control(b"oom_kill_disable 1\nunder_oom 0\noom_kill 3\n") == OomControl(1, 0, 3)
    assert legacy_stats.oom_control(b"oom_kill_disable 0\nunder_oom 1\n") == OomControl(under_oom=1)
