"""Statistics become the messages of containerd, field by field."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shim.cgroup import legacy_stats, stats
from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2
from shim.service.metrics import to_any

PRESSURE = (
    "some avg10=1.50 avg60=0.25 avg300=0.01 total=12345\nfull avg10=0.50 avg60=0.05 avg300=0.00 total=678\n"
)


def leaves(value: Any) -> list[float | str]:
    """The numbers that are not zero, and the texts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value] if value else []


def of_message(message: Any) -> list[float | str]:
    found: list[float | str] = []
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            found += of_message(item) if field.message_type else [item]
    return found


def write_all(folder: Any, names: dict[bytes, str], file: str) -> None:
    """A file in which every number is another one."""
    lines = "".join(f"{name.decode()} {number}\n" for number, name in enumerate(names, 1000))
    (folder / file).write_text(lines)


@pytest.fixture
def unified(tmp_path, monkeypatch) -> stats.Stats:
    monkeypatch.setattr(stats, "hugepage_sizes", lambda: ("2MB",))
    write_all(tmp_path, stats._CPU_KEYS, "cpu.stat")
    write_all(tmp_path, stats._MEMORY_KEYS, "memory.stat")
    write_all(tmp_path, stats._MEMORY_EVENT_KEYS, "memory.events")
    (tmp_path / "cgroup.controllers").write_text("memory hugetlb io pids rdma\n")
    (tmp_path / "io.stat").write_text("8:1 rbytes=1 wbytes=2 rios=3 wios=4\n")
    for name in ("cpu.pressure", "memory.pressure", "io.pressure"):
        (tmp_path / name).write_text(PRESSURE)
    for name in ("rdma.current", "rdma.max"):
        (tmp_path / name).write_text("mlx hca_handle=2 hca_object=max\n")
    for number, name in enumerate(
        ["pids.current", "pids.max", "hugetlb.2MB.current", "hugetlb.2MB.max", *stats._MEMORY_FILES.values()],
        1,
    ):
        (tmp_path / name).write_text(f"{number}\n")
    (tmp_path / "hugetlb.2MB.events").write_text("max 5\n")
    gauge = stats.Gauge(str(tmp_path))
    found = gauge.read()
    gauge.close()
    return found


@pytest.fixture
def legacy(tmp_path, monkeypatch) -> stats.Stats:
    monkeypatch.setattr(legacy_stats, "hugepage_sizes", lambda: ("2MB",))
    write_all(tmp_path, legacy_stats._MEMORY_KEYS, "memory.stat")
    write_all(tmp_path, legacy_stats._CPU_KEYS, "cpu.stat")
    write_all(tmp_path, legacy_stats._OOM_KEYS, "memory.oom_control")
    files = [file for part in legacy_stats._MEMORY_PARTS.values() for file in part.values()]
    files += ["cpuacct.usage", "cpuacct.usage_sys", "cpuacct.usage_user", "pids.current", "pids.max"]
    files += ["hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.max_usage_in_bytes", "hugetlb.2MB.failcnt"]
    for number, name in enumerate(files, 1):
        (tmp_path / name).write_text(f"{number}\n")
    (tmp_path / "cpuacct.usage_percpu").write_text("300 700\n")
    for name in ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"):
        (tmp_path / name).write_text("8:1 Read 4096\nTotal 4096\n")
    for name in ("rdma.current", "rdma.max"):
        (tmp_path / name).write_text("mlx hca_handle=2 hca_object=max\n")
    gauge = legacy_stats.Gauge(dict.fromkeys(legacy_stats._READERS, str(tmp_path)))
    found = gauge.read()
    gauge.close()
    return found


@pytest.mark.parametrize(("which", "message"), [("unified", MetricsV2), ("legacy", MetricsV1)])
def test_every_number_arrives(request, which, message):
    statistics = request.getfixturevalue(which)
    packed = to_any(statistics, unified=which == "unified")
    assert packed.type_url == message.DESCRIPTOR.full_name
    arrived, sent = of_message(message.FromString(packed.value)), leaves(statistics)
    assert len(sent) > 50
    assert sorted(map(str, arrived)) == sorted(map(str, sent))
    assert not any(isinstance(leaf, float) and math.isnan(leaf) for leaf in sent)


@pytest.mark.parametrize(("unified", "message"), [(True, MetricsV2), (False, MetricsV1)])
def test_nothing_known_is_no_error(unified, message):
    assert message.FromString(to_any({}, unified=unified).value) == message()


def test_parts_without_numbers_are_there():
    assert MetricsV1.FromString(to_any({"cpu": {"throttling": {}}}, unified=False).value).cpu.HasField(
        "throttling"
    )
