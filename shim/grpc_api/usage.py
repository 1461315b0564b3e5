"""What a container uses, as the first API's Stats: made of containerd's message for either version of cgroups.

Units are the first API's: nanoseconds and bytes, and ``timestamp`` in seconds since 1970, as containerd had it. Of cgroup v1
everything is as the kernel says. What v2 says otherwise, or not at all, is made so:

| field | v2 |
|---|---|
| cpu_usage, throttling_data | cpu.stat, microseconds times 1000 |
| percpu_usage | empty: the kernel does not count it |
| cache | ``file`` of memory.stat |
| usage | memory.current, memory.peak; failcnt is ``max`` of memory.events |
| swap_usage | memory and swap together, as v1 has them (memory.memsw): the sum of both; of the peaks, too, so at most that |
| kernel_usage | kernel_stack and slab of memory.stat; no peak, no failcnt |
| stats | memory.stat, by the names that it has there |
| blkio | io.stat, as ``Read`` and ``Write`` of io_service_bytes (bytes) and io_serviced (requests); the others are empty |
| hugetlb | current and failcnt; no peak |

Source: kernel Documentation/admin-guide/cgroup-v2.rst and cgroup-v1; containerd of December 2015, supervisor/stats_collector.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from shim.errors import Internal, Unimplemented
from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2
from shim.proto.first_api_pb2 import (
    BlkioStats,
    BlkioStatsEntry,
    CgroupStats,
    CpuStats,
    CpuUsage,
    HugetlbStats,
    MemoryData,
    MemoryStats,
    ThrottlingData,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.message import Message

    from shim.proto import cgroups_v1_pb2 as v1

__all__ = ["to_cgroup_stats"]

_USEC = 1000
# Of the two messages about memory, what is no line of memory.stat.
_NO_COUNTERS = frozenset({
    "usage", "usage_limit", "swap_usage", "swap_limit", "max_usage", "swap_max_usage", "psi", "swap", "kernel", "kernel_tcp",
})  # fmt: skip
# How the kernel spells what the message of v1 has apart.
_KERNEL_NAMES = {
    "pg_pg_in": "pgpgin",
    "pg_pg_out": "pgpgout",
    "pg_fault": "pgfault",
    "pg_maj_fault": "pgmajfault",
}


def to_cgroup_stats(stats: AnyMessage) -> CgroupStats:
    """What a shim answered to Stats.

    Raises:
        Unimplemented: it is another message.
        Internal: it is broken.
    """
    name = stats.type_url.rpartition("/")[2]
    try:
        if name == MetricsV2.DESCRIPTOR.full_name:
            return _of_v2(MetricsV2.FromString(stats.value))
        if name == MetricsV1.DESCRIPTOR.full_name:
            return _of_v1(MetricsV1.FromString(stats.value))
    except DecodeError as error:
        raise Internal(f"statistics of type {name} cannot be decoded") from error
    raise Unimplemented(f"statistics of type {stats.type_url!r}")


def _of_v1(metrics: MetricsV1) -> CgroupStats:
    cpu, memory, blkio = metrics.cpu, metrics.memory, metrics.blkio
    return CgroupStats(
        cpu_stats=CpuStats(
            cpu_usage=CpuUsage(
                total_usage=cpu.usage.total,
                percpu_usage=cpu.usage.per_cpu,
                usage_in_kernelmode=cpu.usage.kernel,
                usage_in_usermode=cpu.usage.user,
            ),
            throttling_data=ThrottlingData(
                periods=cpu.throttling.periods,
                throttled_periods=cpu.throttling.throttled_periods,
                throttled_time=cpu.throttling.throttled_time,
            ),
        ),
        memory_stats=MemoryStats(
            cache=memory.cache,
            usage=_memory_entry(memory.usage),
            swap_usage=_memory_entry(memory.swap),
            kernel_usage=_memory_entry(memory.kernel),
            stats=_counters(memory),
        ),
        blkio_stats=BlkioStats(**{
            field.name: _blkio_entries(getattr(blkio, field.name)) for field in BlkioStats.DESCRIPTOR.fields
        }),
        hugetlb_stats={
            entry.pagesize: HugetlbStats(usage=entry.usage, max_usage=entry.max, failcnt=entry.failcnt)
            for entry in metrics.hugetlb
        },
    )  # fmt: skip


def _memory_entry(entry: v1.MemoryEntry) -> MemoryData:
    return MemoryData(usage=entry.usage, max_usage=entry.max, failcnt=entry.failcnt)


def _blkio_entries(entries: Iterable[v1.BlkIOEntry]) -> list[BlkioStatsEntry]:
    return [BlkioStatsEntry(major=e.major, minor=e.minor, op=e.op, value=e.value) for e in entries]


def _counters(memory: Message) -> Mapping[str, int]:
    names = [field.name for field in memory.DESCRIPTOR.fields if field.name not in _NO_COUNTERS]
    return {_kernel_name(name): getattr(memory, name) for name in names}


def _kernel_name(name: str) -> str:
    total, bare = ("total_", name[len("total_") :]) if name.startswith("total_") else ("", name)
    return total + _KERNEL_NAMES.get(bare, bare)


def _of_v2(metrics: MetricsV2) -> CgroupStats:
    cpu = metrics.cpu
    return CgroupStats(
        cpu_stats=CpuStats(
            cpu_usage=CpuUsage(
                total_usage=cpu.usage_usec * _USEC,
                usage_in_kernelmode=cpu.system_usec * _USEC,
                usage_in_usermode=cpu.user_usec * _USEC,
            ),
            throttling_data=ThrottlingData(
                periods=cpu.nr_periods,
                throttled_periods=cpu.nr_throttled,
                throttled_time=cpu.throttled_usec * _USEC,
            ),
        ),
        memory_stats=_memory_of_v2(metrics),
        blkio_stats=_blkio_of_v2(metrics),
        hugetlb_stats={
            entry.pagesize: HugetlbStats(usage=entry.current, failcnt=entry.failcnt)
            for entry in metrics.hugetlb
        },
    )


def _memory_of_v2(metrics: MetricsV2) -> MemoryStats:
    memory = metrics.memory
    return MemoryStats(
        cache=memory.file,
        usage=MemoryData(usage=memory.usage, max_usage=memory.max_usage, failcnt=metrics.memory_events.max),
        swap_usage=MemoryData(
            usage=memory.usage + memory.swap_usage, max_usage=memory.max_usage + memory.swap_max_usage
        ),
        kernel_usage=MemoryData(usage=memory.kernel_stack + memory.slab),
        stats=_counters(memory),
    )


def _blkio_of_v2(metrics: MetricsV2) -> BlkioStats:
    def entries(read: str, write: str) -> list[BlkioStatsEntry]:
        return [
            BlkioStatsEntry(major=device.major, minor=device.minor, op=op, value=getattr(device, field))
            for device in metrics.io.usage
            for op, field in (("Read", read), ("Write", write))
        ]

    return BlkioStats(
        io_service_bytes_recursive=entries("rbytes", "wbytes"), io_serviced_recursive=entries("rios", "wios")
    )
