from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from shim.containers import measurement
from shim.errors import Unimplemented
from shim.proto import cgroups_v1_pb2 as v1
from shim.proto import cgroups_v2_pb2 as v2


def _any(message, prefix=""):
    return AnyMessage(type_url=prefix + message.DESCRIPTOR.full_name, value=message.SerializeToString())


def test_v2_counts_memory_without_idle_page_cache():
    message = v2.Metrics(
        cpu=v2.CPUStat(usage_usec=5),
        memory=v2.MemoryStat(usage=1000, inactive_file=300, usage_limit=2**64 - 1),
        pids=v2.PidsStat(current=3, limit=10),
        io=v2.IOStat(usage=[v2.IOEntry(rbytes=1, wbytes=2), v2.IOEntry(rbytes=10, wbytes=20)]),
        memory_events=v2.MemoryEvents(oom_kill=1),
    )
    seen = measurement.read(_any(message))
    assert (seen.cpu_ns, seen.memory_bytes, seen.memory_limit) == (5000, 700, None)
    assert (seen.pids, seen.pids_limit) == (3, 10)
    assert (seen.read_bytes, seen.written_bytes, seen.oom_kills) == (11, 22, 1)


def test_v1_is_read_into_the_same():
    message = v1.Metrics(
        cpu=v1.CPUStat(usage=v1.CPUUsage(total=7)),
        memory=v1.MemoryStat(total_inactive_file=1, usage=v1.MemoryEntry(usage=100, limit=4096)),
        pids=v1.PidsStat(current=1),
        blkio=v1.BlkIOStat(
            io_service_bytes_recursive=[v1.BlkIOEntry(op="Read", value=4), v1.BlkIOEntry(op="Total", value=9)]
        ),
    )
    seen = measurement.read(_any(message, "type.googleapis.com/"))
    assert (seen.cpu_ns, seen.memory_bytes, seen.memory_limit) == (7, 99, 4096)
    assert (seen.pids, seen.pids_limit, seen.read_bytes, seen.written_bytes) == (1, None, 4, 0)


@pytest.mark.parametrize("limit", [0, 2**63 - 4096, 2**64 - 1])
def test_a_limit_beyond_all_memory_is_none(limit):
    message = v2.Metrics(memory=v2.MemoryStat(usage_limit=limit))
    assert measurement.read(_any(message)).memory_limit is None


def test_share_of_a_cpu_is_between_two_looks():
    def at(at_ns, cpu_ns):
        return measurement.Measurement(at_ns, cpu_ns, 0, None, 0, None, 0, 0, 0)

    assert at(2_000, 1_500).cpu_percent(at(1_000, 1_000)) == 50.0
    assert at(1_000, 1_500).cpu_percent(at(1_000, 1_000)) == 0.0


def test_other_statistics_are_refused():
    with pytest.raises(Unimplemented, match=r"x\.Metrics"):
        measurement.read(AnyMessage(type_url="x.Metrics"))
