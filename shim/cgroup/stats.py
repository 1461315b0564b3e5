"""What the kernel counted for one cgroup v2 group.

The value has the names and units of io.containerd.cgroups.v2.Metrics, so that the wire's side copies by name. A file
that does not exist, or that the kernel will not read (pressure that is switched off), counts as zero; "max" in a limit
is 2**64 - 1, as containerd has it. One pass, only the files of enabled controllers, no regular expressions: this runs
for every container at every scrape.

Source: kernel Documentation/admin-guide/cgroup-v2.rst; Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import errno
import functools
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from shim.cgroup import tree
from shim.cgroup.files import GroupFiles
from shim.errors import NotFound, from_os_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.cgroup.files import ReadFile

__all__ = [
    "UNLIMITED",
    "CpuStat",
    "HugetlbStat",
    "IoEntry",
    "IoStat",
    "MemoryEvents",
    "MemoryStat",
    "PidsStat",
    "PsiData",
    "PsiStats",
    "RdmaEntry",
    "RdmaStat",
    "Stats",
    "hugepage_sizes",
    "rdma_entries",
    "read",
]

UNLIMITED = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class PsiData:
    """Shares of time in percent, the total in microseconds."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total: int = 0


@dataclass(frozen=True, slots=True)
class PsiStats:
    """Pressure: time in which some, or all, processes waited."""

    some: PsiData = PsiData()
    full: PsiData = PsiData()


@dataclass(frozen=True, slots=True)
class PidsStat:
    """Numbers of processes and threads."""

    current: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class CpuStat:
    """Times in microseconds."""

    usage_usec: int = 0
    user_usec: int = 0
    system_usec: int = 0
    nr_periods: int = 0
    nr_throttled: int = 0
    throttled_usec: int = 0
    psi: PsiStats = PsiStats()
    nr_bursts: int = 0
    burst_usec: int = 0


@dataclass(frozen=True, slots=True)
class MemoryStat:
    """Sizes in bytes, events as counts; the first names are those of memory.stat."""

    anon: int = 0
    file: int = 0
    kernel_stack: int = 0
    slab: int = 0
    sock: int = 0
    shmem: int = 0
    file_mapped: int = 0
    file_dirty: int = 0
    file_writeback: int = 0
    anon_thp: int = 0
    inactive_anon: int = 0
    active_anon: int = 0
    inactive_file: int = 0
    active_file: int = 0
    unevictable: int = 0
    slab_reclaimable: int = 0
    slab_unreclaimable: int = 0
    pgfault: int = 0
    pgmajfault: int = 0
    workingset_refault: int = 0
    workingset_activate: int = 0
    workingset_nodereclaim: int = 0
    pgrefill: int = 0
    pgscan: int = 0
    pgsteal: int = 0
    pgactivate: int = 0
    pgdeactivate: int = 0
    pglazyfree: int = 0
    pglazyfreed: int = 0
    thp_fault_alloc: int = 0
    thp_collapse_alloc: int = 0
    usage: int = 0
    usage_limit: int = 0
    swap_usage: int = 0
    swap_limit: int = 0
    max_usage: int = 0
    swap_max_usage: int = 0
    psi: PsiStats = PsiStats()


@dataclass(frozen=True, slots=True)
class MemoryEvents:
    """How often limits were met, in the group and below it."""

    low: int = 0
    high: int = 0
    max: int = 0
    oom: int = 0
    oom_kill: int = 0
    oom_group_kill: int = 0


@dataclass(frozen=True, slots=True)
class RdmaEntry:
    """One device."""

    device: str
    hca_handles: int = 0
    hca_objects: int = 0


@dataclass(frozen=True, slots=True)
class RdmaStat:
    """Use and limits of RDMA devices."""

    current: tuple[RdmaEntry, ...] = ()
    limit: tuple[RdmaEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class IoEntry:
    """Bytes and operations of one block device."""

    major: int
    minor: int
    rbytes: int = 0
    wbytes: int = 0
    rios: int = 0
    wios: int = 0


@dataclass(frozen=True, slots=True)
class IoStat:
    """Block devices."""

    usage: tuple[IoEntry, ...] = ()
    psi: PsiStats = PsiStats()


@dataclass(frozen=True, slots=True)
class HugetlbStat:
    """Huge pages of one size, in bytes; failcnt counts refusals."""

    current: int
    max: int
    pagesize: str
    failcnt: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Everything, at one moment (nearly: the kernel has no snapshot over files)."""

    pids: PidsStat = PidsStat()
    cpu: CpuStat = CpuStat()
    memory: MemoryStat = MemoryStat()
    rdma: RdmaStat = RdmaStat()
    io: IoStat = IoStat()
    hugetlb: tuple[HugetlbStat, ...] = ()
    memory_events: MemoryEvents = MemoryEvents()


def read(directory: str, read_file: ReadFile = tree.read_file) -> Stats:
    """The counters of the group ``directory``, whose files are read by ``read_file``.

    Raises:
        NotFound: there is no such group.
    """
    try:
        enabled = frozenset(read_file(f"{directory}/cgroup.controllers").split())
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENODEV}:
            raise NotFound(f"cgroup {directory} does not exist") from error
        raise from_os_error(error, f"cgroup {directory} cannot be read") from error
    group = GroupFiles(directory, read_file, unlimited=UNLIMITED)
    return Stats(
        pids=_pids(group) if b"pids" in enabled else PidsStat(),
        cpu=_cpu(group),
        memory=_memory(group) if b"memory" in enabled else MemoryStat(),
        rdma=_rdma(group) if b"rdma" in enabled else RdmaStat(),
        io=_io(group, enabled=b"io" in enabled),
        hugetlb=_hugetlb(group) if b"hugetlb" in enabled else (),
        memory_events=_memory_events(group) if b"memory" in enabled else MemoryEvents(),
    )


def _pids(group: GroupFiles) -> PidsStat:
    return PidsStat(group.number("pids.current"), group.number("pids.max"))


def _cpu(group: GroupFiles) -> CpuStat:
    # cpu.stat is the core's: it exists, with the usage alone, without the controller too.
    return CpuStat(
        psi=_psi(group.content("cpu.pressure")),
        **_select(group.pairs("cpu.stat"), _CPU_NAMES),
    )


def _memory(group: GroupFiles) -> MemoryStat:
    pairs = group.pairs("memory.stat")
    return MemoryStat(
        **_select(pairs, _MEMORY_NAMES),
        **{name: sum(pairs.get(part, 0) for part in parts) for name, parts in _SPLIT_COUNTERS.items()},
        **{name: group.number(file) for name, file in _MEMORY_FILES.items()},
        psi=_psi(group.content("memory.pressure")),
    )


def _memory_events(group: GroupFiles) -> MemoryEvents:
    return MemoryEvents(**_select(group.pairs("memory.events"), _MEMORY_EVENT_NAMES))


def _select(pairs: Mapping[bytes, bytes | int], names: Mapping[bytes, str]) -> dict[str, int]:
    return {name: int(pairs[key]) for key, name in names.items() if key in pairs}


def _psi(content: bytes) -> PsiStats:
    """``some avg10=0.00 avg60=0.00 avg300=0.00 total=0``, and mostly the same line for ``full``."""
    words = content.split()
    return PsiStats(*(_psi_data(words[start + 1 : start + 5]) for start in range(0, len(words), 5)))


def _psi_data(words: list[bytes]) -> PsiData:
    avg10, avg60, avg300, total = (word.partition(b"=")[2] for word in words)
    return PsiData(float(avg10), float(avg60), float(avg300), int(total))


def _io(group: GroupFiles, *, enabled: bool) -> IoStat:
    usage = tuple(_io_entries(group.content("io.stat"))) if enabled else ()
    return IoStat(usage, _psi(group.content("io.pressure")))


def _io_entries(content: bytes) -> list[IoEntry]:
    """Lines of ``8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6``; a device without I/O has only its number."""
    entries = []
    for line in content.splitlines():
        number, *words = line.split()
        major, separator, minor = number.partition(b":")
        if separator:
            values = dict(word.split(b"=", 1) for word in words)
            entries.append(IoEntry(int(major), int(minor), **_select(values, _IO_NAMES)))
    return entries


def _hugetlb(group: GroupFiles) -> tuple[HugetlbStat, ...]:
    return tuple(
        HugetlbStat(
            group.number(f"hugetlb.{size}.current"),
            group.number(f"hugetlb.{size}.max"),
            size,
            group.pairs(f"hugetlb.{size}.events").get(b"max", 0),
        )
        for size in hugepage_sizes()
    )


@functools.cache
def hugepage_sizes() -> tuple[str, ...]:
    """The sizes that this machine has, as cgroup files spell them: ``2MB``, ``1GB``."""
    try:
        names = os.listdir("/sys/kernel/mm/hugepages")
    except FileNotFoundError:
        return ()
    return tuple(_spelt(int(name[len("hugepages-") : -len("kB")])) for name in sorted(names))


def _spelt(size_kib: int) -> str:
    for unit, factor in (("GB", 1 << 20), ("MB", 1 << 10)):
        if size_kib >= factor:
            return f"{size_kib // factor}{unit}"
    return f"{size_kib}KB"


def _rdma(group: GroupFiles) -> RdmaStat:
    return RdmaStat(rdma_entries(group.content("rdma.current")), rdma_entries(group.content("rdma.max")))


def rdma_entries(content: bytes) -> tuple[RdmaEntry, ...]:
    """Lines of ``mlx4_0 hca_handle=2 hca_object=max``; the message has 32 bits, "max" is all of them."""
    entries = []
    for line in content.splitlines():
        device, *words = line.split()
        values = {key: (1 << 32) - 1 if value == b"max" else int(value) for key, value in map(_halves, words)}
        entries.append(RdmaEntry(device.decode(), values.get(b"hca_handle", 0), values.get(b"hca_object", 0)))
    return tuple(entries)


def _halves(word: bytes) -> tuple[bytes, bytes]:
    key, _, value = word.partition(b"=")
    return key, value


_CPU_NAMES = {f.name.encode(): f.name for f in fields(CpuStat) if f.name != "psi"}
_MEMORY_EVENT_NAMES = {f.name.encode(): f.name for f in fields(MemoryEvents)}
_IO_NAMES = {name.encode(): name for name in ("rbytes", "wbytes", "rios", "wios")}

_MEMORY_FILES = {
    "usage": "memory.current",
    "usage_limit": "memory.max",
    "swap_usage": "memory.swap.current",
    "swap_limit": "memory.swap.max",
    "max_usage": "memory.peak",
    "swap_max_usage": "memory.swap.peak",
}
# One counter each before Linux 5.9; the field is one number still.
_SPLIT_COUNTERS = {
    "workingset_refault": (b"workingset_refault", b"workingset_refault_anon", b"workingset_refault_file"),
    "workingset_activate": (b"workingset_activate", b"workingset_activate_anon", b"workingset_activate_file"),
}
_MEMORY_NAMES = {
    f.name.encode(): f.name
    for f in fields(MemoryStat)
    if f.name != "psi" and f.name not in _MEMORY_FILES and f.name not in _SPLIT_COUNTERS
}
