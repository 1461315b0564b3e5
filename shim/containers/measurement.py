"""What a container uses, read from either of containerd's two messages about a cgroup.

Source: io.containerd.cgroups.v1.Metrics, io.containerd.cgroups.v2.Metrics; the kubelet's way of counting memory (without
the page cache that would be given back first).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import Unimplemented
from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

__all__ = ["Measurement", "read"]

# A limit that is none: 2^64 - 1 on v2, and on v1 the greatest signed number, rounded down to a page.
_NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class Measurement:
    """One look at a cgroup. Sizes in bytes; a limit of None is no limit."""

    at_ns: int
    """When, in time.monotonic_ns."""
    cpu_ns: int
    """CPU time used so far."""
    memory_bytes: int
    memory_limit: int | None
    pids: int
    pids_limit: int | None
    read_bytes: int
    written_bytes: int
    oom_kills: int

    def cpu_percent(self, before: Measurement) -> float:
        """Of one CPU, between ``before`` and now."""
        passed = self.at_ns - before.at_ns
        return 100 * (self.cpu_ns - before.cpu_ns) / passed if passed > 0 else 0.0


def read(stats: AnyMessage) -> Measurement:
    """The measurements in a StatsResponse, taken to be of this moment.

    Raises:
        Unimplemented: another message.
    """
    name = stats.type_url.rpartition("/")[2]
    if name == MetricsV2.DESCRIPTOR.full_name:
        return _v2(MetricsV2.FromString(stats.value))
    if name == MetricsV1.DESCRIPTOR.full_name:
        return _v1(MetricsV1.FromString(stats.value))
    raise Unimplemented(f"statistics of type {stats.type_url!r}")


def _limit(number: int) -> int | None:
    return number if 0 < number < _NO_LIMIT else None


def _v2(metrics: MetricsV2) -> Measurement:
    memory = metrics.memory
    return Measurement(
        at_ns=time.monotonic_ns(),
        cpu_ns=metrics.cpu.usage_usec * 1000,
        memory_bytes=max(0, memory.usage - memory.inactive_file),
        memory_limit=_limit(memory.usage_limit),
        pids=metrics.pids.current,
        pids_limit=_limit(metrics.pids.limit),
        read_bytes=sum(entry.rbytes for entry in metrics.io.usage),
        written_bytes=sum(entry.wbytes for entry in metrics.io.usage),
        oom_kills=metrics.memory_events.oom_kill,
    )


def _v1(metrics: MetricsV1) -> Measurement:
    memory = metrics.memory
    moved = {"read": 0, "write": 0}
    for entry in metrics.blkio.io_service_bytes_recursive:
        if entry.op.lower() in moved:
            moved[entry.op.lower()] += entry.value
    return Measurement(
        at_ns=time.monotonic_ns(),
        cpu_ns=metrics.cpu.usage.total,
        memory_bytes=max(0, memory.usage.usage - memory.total_inactive_file),
        memory_limit=_limit(memory.usage.limit),
        pids=metrics.pids.current,
        pids_limit=_limit(metrics.pids.limit),
        read_bytes=moved["read"],
        written_bytes=moved["write"],
        oom_kills=metrics.memory_oom_control.oom_kill,
    )
