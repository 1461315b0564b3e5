"""What the kernel counted for the cgroup v1 groups of one container.

The value has the names and units of io.containerd.cgroups.v1.Metrics (nanoseconds, bytes), so that the wire's side
copies by name. Only controllers in which the container has a group of its own are read: elsewhere the files count
everything else, too. What is missing counts as zero, and so does an unlimited pids.max, as containerd has it.

Source: kernel Documentation/admin-guide/cgroup-v1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from shim.cgroup import tree
from shim.cgroup.files import GroupFiles
from shim.cgroup.stats import PidsStat, RdmaEntry, RdmaStat, hugepage_sizes, rdma_entries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.cgroup.files import ReadFile

__all__ = [
    "BlkioEntry",
    "BlkioStat",
    "CpuStat",
    "CpuUsage",
    "HugetlbStat",
    "MemoryEntry",
    "MemoryStat",
    "OomControl",
    "RdmaEntry",
    "Stats",
    "Throttle",
    "oom_control",
    "read",
]


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """Nanoseconds."""

    total: int = 0
    kernel: int = 0
    user: int = 0
    per_cpu: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Throttle:
    """Periods as counts, the time in nanoseconds."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


@dataclass(frozen=True, slots=True)
class CpuStat:
    """Time used, and time not given."""

    usage: CpuUsage = CpuUsage()
    throttling: Throttle = Throttle()


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """One counter with its limit, greatest value and number of refusals."""

    limit: int = 0
    usage: int = 0
    max: int = 0
    failcnt: int = 0


@dataclass(frozen=True, slots=True)
class MemoryStat:
    """memory.stat, and four counters; ``total_`` includes the groups below."""

    cache: int = 0
    rss: int = 0
    rss_huge: int = 0
    mapped_file: int = 0
    dirty: int = 0
    writeback: int = 0
    pg_pg_in: int = 0
    pg_pg_out: int = 0
    pg_fault: int = 0
    pg_maj_fault: int = 0
    inactive_anon: int = 0
    active_anon: int = 0
    inactive_file: int = 0
    active_file: int = 0
    unevictable: int = 0
    hierarchical_memory_limit: int = 0
    hierarchical_swap_limit: int = 0
    total_cache: int = 0
    total_rss: int = 0
    total_rss_huge: int = 0
    total_mapped_file: int = 0
    total_dirty: int = 0
    total_writeback: int = 0
    total_pg_pg_in: int = 0
    total_pg_pg_out: int = 0
    total_pg_fault: int = 0
    total_pg_maj_fault: int = 0
    total_inactive_anon: int = 0
    total_active_anon: int = 0
    total_inactive_file: int = 0
    total_active_file: int = 0
    total_unevictable: int = 0
    usage: MemoryEntry = MemoryEntry()
    swap: MemoryEntry = MemoryEntry()
    kernel: MemoryEntry = MemoryEntry()
    kernel_tcp: MemoryEntry = MemoryEntry()


@dataclass(frozen=True, slots=True)
class OomControl:
    """memory.oom_control; the kills are those in the group itself, not below it."""

    oom_kill_disable: int = 0
    under_oom: int = 0
    oom_kill: int = 0


@dataclass(frozen=True, slots=True)
class BlkioEntry:
    """One operation on one block device."""

    op: str
    device: str
    major: int
    minor: int
    value: int


@dataclass(frozen=True, slots=True)
class BlkioStat:
    """Bytes and numbers of operations. The other fields of the message were CFQ's, which Linux 5.0 dropped."""

    io_service_bytes_recursive: tuple[BlkioEntry, ...] = ()
    io_serviced_recursive: tuple[BlkioEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class HugetlbStat:
    """Huge pages of one size, in bytes."""

    usage: int
    max: int
    failcnt: int
    pagesize: str


_NO_PIDS = PidsStat()
_NO_RDMA = RdmaStat()


@dataclass(frozen=True, slots=True)
class Stats:
    """Everything, at one moment (nearly: the kernel has no snapshot over files)."""

    hugetlb: tuple[HugetlbStat, ...] = ()
    pids: PidsStat = _NO_PIDS
    cpu: CpuStat = CpuStat()
    memory: MemoryStat = MemoryStat()
    blkio: BlkioStat = BlkioStat()
    rdma: RdmaStat = _NO_RDMA
    memory_oom_control: OomControl = OomControl()


def read(directories: Mapping[str, str], read_file: ReadFile = tree.read_file) -> Stats:
    """The counters of the groups in ``directories``, by controller; a group that is gone counts as zeros.

    Their files are read by ``read_file``.
    """
    groups = {name: GroupFiles(directory, read_file, unlimited=0) for name, directory in directories.items()}
    memory = groups.get("memory")
    return Stats(
        hugetlb=_hugetlb(groups["hugetlb"]) if "hugetlb" in groups else (),
        pids=_pids(groups["pids"]) if "pids" in groups else _NO_PIDS,
        cpu=CpuStat(_usage(groups.get("cpuacct")), _throttle(groups.get("cpu"))),
        memory=_memory(memory) if memory else MemoryStat(),
        blkio=_blkio(groups["blkio"]) if "blkio" in groups else BlkioStat(),
        rdma=_rdma(groups["rdma"]) if "rdma" in groups else _NO_RDMA,
        memory_oom_control=_oom_control(memory.pairs("memory.oom_control")) if memory else OomControl(),
    )


def _pids(group: GroupFiles) -> PidsStat:
    return PidsStat(group.number("pids.current"), group.number("pids.max"))


def _usage(group: GroupFiles | None) -> CpuUsage:
    if group is None:
        return CpuUsage()
    return CpuUsage(
        group.number("cpuacct.usage"),
        group.number("cpuacct.usage_sys"),
        group.number("cpuacct.usage_user"),
        tuple(map(int, group.content("cpuacct.usage_percpu").split())),
    )


def _throttle(group: GroupFiles | None) -> Throttle:
    counted = group.pairs("cpu.stat") if group else {}
    return Throttle(*(counted.get(key, 0) for key in (b"nr_periods", b"nr_throttled", b"throttled_time")))


def _memory(group: GroupFiles) -> MemoryStat:
    pairs = group.pairs("memory.stat")
    return MemoryStat(
        **{name: pairs[key] for key, name in _MEMORY_NAMES.items() if key in pairs},
        usage=_memory_entry(group, "memory"),
        swap=_memory_entry(group, "memory.memsw"),
        kernel=_memory_entry(group, "memory.kmem"),
        kernel_tcp=_memory_entry(group, "memory.kmem.tcp"),
    )


def _memory_entry(group: GroupFiles, prefix: str) -> MemoryEntry:
    files = ("limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes", "failcnt")
    return MemoryEntry(*(group.number(f"{prefix}.{file}") for file in files))


def oom_control(content: bytes) -> OomControl:
    """The content of memory.oom_control."""
    words = content.split()
    return _oom_control(dict(zip(words[::2], map(int, words[1::2]), strict=True)))


def _oom_control(pairs: Mapping[bytes, int]) -> OomControl:
    return OomControl(*(pairs.get(key, 0) for key in (b"oom_kill_disable", b"under_oom", b"oom_kill")))


def _blkio(group: GroupFiles) -> BlkioStat:
    return BlkioStat(
        _blkio_entries(group.content("blkio.throttle.io_service_bytes_recursive")),
        _blkio_entries(group.content("blkio.throttle.io_serviced_recursive")),
    )


def _blkio_entries(content: bytes) -> tuple[BlkioEntry, ...]:
    """Lines of ``8:0 Read 4096``; the last, ``Total 4096``, is left out."""
    entries = []
    for line in content.splitlines():
        words = line.split()
        if len(words) == 3:
            number = words[0].decode()
            major, minor = map(int, number.split(":"))
            entries.append(BlkioEntry(words[1].decode(), _device_path(number), major, minor, int(words[2])))
    return tuple(entries)


def _device_path(number: str) -> str:
    """``/dev/sda`` for ``8:0``; empty for a device that has gone."""
    try:
        return f"/dev/{os.path.basename(os.readlink(f'/sys/dev/block/{number}'))}"
    except OSError:
        return ""


def _hugetlb(group: GroupFiles) -> tuple[HugetlbStat, ...]:
    return tuple(
        HugetlbStat(
            group.number(f"hugetlb.{size}.usage_in_bytes"),
            group.number(f"hugetlb.{size}.max_usage_in_bytes"),
            group.number(f"hugetlb.{size}.failcnt"),
            size,
        )
        for size in hugepage_sizes()
    )


def _rdma(group: GroupFiles) -> RdmaStat:
    return RdmaStat(rdma_entries(group.content("rdma.current")), rdma_entries(group.content("rdma.max")))


# The message spells some names apart that the kernel writes as one.
_SPELT_APART = {
    "pg_pg_in": "pgpgin",
    "pg_pg_out": "pgpgout",
    "pg_fault": "pgfault",
    "pg_maj_fault": "pgmajfault",
}
_SPELT_APART |= {f"total_{name}": f"total_{kernel}" for name, kernel in _SPELT_APART.items()}
_SPELT_APART["hierarchical_swap_limit"] = "hierarchical_memsw_limit"
_ENTRIES = {"usage", "swap", "kernel", "kernel_tcp"}
_MEMORY_NAMES = {
    _SPELT_APART.get(f.name, f.name).encode(): f.name for f in fields(MemoryStat) if f.name not in _ENTRIES
}
