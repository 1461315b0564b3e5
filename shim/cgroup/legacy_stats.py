"""What the kernel counted for the cgroup v1 groups of one container.

The value has the names and units of io.containerd.cgroups.v1.Metrics (nanoseconds, bytes), part for part, so that the
wire's side makes the message of it as it is. Only controllers in which the container has a group of its own are read:
elsewhere the files count everything else, too. What is missing counts as zero, and so does an unlimited pids.max, as
containerd has it.

Source: kernel Documentation/admin-guide/cgroup-v1; containerd cgroups cgroup1/stats.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from shim.cgroup.files import GroupFiles
from shim.cgroup.stats import Stats, chosen, hugepage_sizes, rdma

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Gauge", "OomControl", "oom_control"]

_COUNTERS = (
    "cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pg_pg_in", "pg_pg_out", "pg_fault", "pg_maj_fault",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable",
)  # fmt: skip
# The message spells some names apart that the kernel writes as one.
_SPELT_APART = {
    "pg_pg_in": "pgpgin",
    "pg_pg_out": "pgpgout",
    "pg_fault": "pgfault",
    "pg_maj_fault": "pgmajfault",
}
# With ``total_`` they include the groups below.
_MEMORY_KEYS = {
    f"{prefix}{_SPELT_APART.get(name, name)}".encode(): f"{prefix}{name}"
    for prefix in ("", "total_")
    for name in _COUNTERS
} | {
    b"hierarchical_memory_limit": "hierarchical_memory_limit",
    b"hierarchical_memsw_limit": "hierarchical_swap_limit",
}
_MEMORY_PARTS = {
    name: {
        field: f"{prefix}.{file}"
        for field, file in (
            ("limit", "limit_in_bytes"),
            ("usage", "usage_in_bytes"),
            ("max", "max_usage_in_bytes"),
            ("failcnt", "failcnt"),
        )
    }
    for name, prefix in (
        ("usage", "memory"),
        ("swap", "memory.memsw"),
        ("kernel", "memory.kmem"),
        ("kernel_tcp", "memory.kmem.tcp"),
    )
}
_CPU_KEYS = {
    b"nr_periods": "periods",
    b"nr_throttled": "throttled_periods",
    b"throttled_time": "throttled_time",
}


class OomControl(NamedTuple):
    """memory.oom_control; the kills are those in the group itself, not below it."""

    oom_kill_disable: int = 0
    under_oom: int = 0
    oom_kill: int = 0


_OOM_KEYS = {name.encode(): name for name in OomControl._fields}


class Gauge:
    """Reads the groups in ``directories``, by controller. Owns their open files until ``close``."""

    def __init__(self, directories: Mapping[str, str]) -> None:
        self.files = {name: GroupFiles(directory, unlimited=0) for name, directory in directories.items()}

    def read(self) -> Stats:
        """The counters now; zeros when the groups are gone."""
        found: Stats = {"cpu": {}}
        for controller, files in self.files.items():
            if (read := _READERS.get(controller)) is not None:
                read(files, found)
        return found

    def close(self) -> None:
        """No file is open; they are opened again by the next ``read``. Idempotent."""
        for files in self.files.values():
            files.close()


def oom_control(content: bytes) -> OomControl:
    """The content of memory.oom_control."""
    words = iter(content.split())
    return OomControl(**chosen(dict(zip(words, words, strict=True)), _OOM_KEYS))


def _pids(files: GroupFiles, found: Stats) -> None:
    found["pids"] = {"current": files.number("pids.current"), "limit": files.number("pids.max")}


def _cpuacct(files: GroupFiles, found: Stats) -> None:
    found["cpu"]["usage"] = {
        "total": files.number("cpuacct.usage"),
        "kernel": files.number("cpuacct.usage_sys"),
        "user": files.number("cpuacct.usage_user"),
        "per_cpu": [int(word) for word in files.content("cpuacct.usage_percpu").split()],
    }


def _cpu(files: GroupFiles, found: Stats) -> None:
    found["cpu"]["throttling"] = chosen(files.pairs("cpu.stat"), _CPU_KEYS)


def _memory(files: GroupFiles, found: Stats) -> None:
    memory: Stats = chosen(files.pairs("memory.stat"), _MEMORY_KEYS)
    for name, part in _MEMORY_PARTS.items():
        memory[name] = {field: files.number(file) for field, file in part.items()}
    found["memory"] = memory
    found["memory_oom_control"] = chosen(files.pairs("memory.oom_control"), _OOM_KEYS)


def _blkio(files: GroupFiles, found: Stats) -> None:
    # The other fields of the message were CFQ's, which Linux 5.0 dropped.
    found["blkio"] = {
        "io_service_bytes_recursive": _blkio_entries(
            files.content("blkio.throttle.io_service_bytes_recursive")
        ),
        "io_serviced_recursive": _blkio_entries(files.content("blkio.throttle.io_serviced_recursive")),
    }


def _blkio_entries(content: bytes) -> list[Stats]:
    """Lines of ``8:0 Read 4096``; the last, ``Total 4096``, is left out."""
    entries: list[Stats] = []
    for line in content.splitlines():
        words = line.split()
        if len(words) == 3:
            number = words[0].decode()
            major, minor = map(int, number.split(":"))
            entries.append(
                {
                    "op": words[1].decode(),
                    "device": _device_path(number),
                    "major": major,
                    "minor": minor,
                    "value": int(words[2]),
                }
            )
    return entries


def _device_path(number: str) -> str:
    """``/dev/sda`` for ``8:0``; empty for a device that has gone."""
    try:
        return f"/dev/{os.path.basename(os.readlink(f'/sys/dev/block/{number}'))}"
    except OSError:
        return ""


def _hugetlb(files: GroupFiles, found: Stats) -> None:
    found["hugetlb"] = [
        {
            "pagesize": size,
            "usage": files.number(f"hugetlb.{size}.usage_in_bytes"),
            "max": files.number(f"hugetlb.{size}.max_usage_in_bytes"),
            "failcnt": files.number(f"hugetlb.{size}.failcnt"),
        }
        for size in hugepage_sizes()
    ]


def _rdma(files: GroupFiles, found: Stats) -> None:
    found["rdma"] = rdma(files)


_READERS: Mapping[str, Callable[[GroupFiles, Stats], None]] = {
    "pids": _pids,
    "cpuacct": _cpuacct,
    "cpu": _cpu,
    "memory": _memory,
    "blkio": _blkio,
    "hugetlb": _hugetlb,
    "rdma": _rdma,
}
