"""What the kernel counted for one cgroup v2 group.

The value has the names and units of io.containerd.cgroups.v2.Metrics, part for part, so that the wire's side makes the
message of it as it is. A file that does not exist, or that the kernel will not read (pressure that is switched off), counts
as zero; "max" in a limit is 2**64 - 1, as containerd has it. One pass, only the files of enabled controllers, no regular
expressions: this runs for every container at every scrape. (Dataclasses in between took as long as the files.)

Source: kernel Documentation/admin-guide/cgroup-v2.rst; Documentation/accounting/psi.rst; containerd cgroups cgroup2/stats.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, TypeAlias

from shim.cgroup.files import GroupFiles
from shim.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["UNLIMITED", "Gauge", "Stats", "chosen", "hugepage_sizes", "rdma"]

Stats: TypeAlias = dict[str, Any]
"""Everything, at one moment (nearly: the kernel has no snapshot over files)."""

UNLIMITED = (1 << 64) - 1

_CPU = (
    "usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec", "nr_bursts", "burst_usec",
)  # fmt: skip
_MEMORY = (
    "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable",
    "slab_unreclaimable", "pgfault", "pgmajfault", "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate",
    "pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
)  # fmt: skip
# One counter each before Linux 5.9; the field is one number still.
_SPLIT = {
    name: tuple(f"{name}{suffix}".encode() for suffix in ("", "_anon", "_file"))
    for name in ("workingset_refault", "workingset_activate")
}
_MEMORY_FILES = {
    "usage": "memory.current",
    "usage_limit": "memory.max",
    "swap_usage": "memory.swap.current",
    "swap_limit": "memory.swap.max",
    "max_usage": "memory.peak",
    "swap_max_usage": "memory.swap.peak",
}
_MEMORY_EVENTS = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
_IO = ("rbytes", "wbytes", "rios", "wios")


def _keys(names: Iterable[str]) -> dict[bytes, str]:
    return {name.encode(): name for name in names}


_CPU_KEYS, _MEMORY_KEYS, _MEMORY_EVENT_KEYS, _IO_KEYS = map(_keys, (_CPU, _MEMORY, _MEMORY_EVENTS, _IO))


class Gauge:
    """Reads the group ``directory``. Owns its open files until ``close``."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.files = GroupFiles(directory, unlimited=UNLIMITED)

    def read(self) -> Stats:
        """The counters now.

        Raises:
            NotFound: there is no such group.
        """
        files = self.files
        enabled = frozenset(files.content("cgroup.controllers").split())
        # Of a group without controllers that file is empty; the other is there in every one.
        if not enabled and not files.content("cpu.stat"):
            raise NotFound(f"cgroup {self._directory} does not exist")
        found: Stats = {"cpu": _cpu(files), "io": _io(files, enabled=b"io" in enabled)}
        if b"pids" in enabled:
            found["pids"] = {"current": files.number("pids.current"), "limit": files.number("pids.max")}
        if b"memory" in enabled:
            found["memory"] = _memory(files)
            found["memory_events"] = chosen(files.pairs("memory.events"), _MEMORY_EVENT_KEYS)
        if b"rdma" in enabled:
            found["rdma"] = rdma(files)
        if b"hugetlb" in enabled:
            found["hugetlb"] = _hugetlb(files)
        return found

    def close(self) -> None:
        """No file is open; they are opened again by the next ``read``. Idempotent."""
        self.files.close()


def chosen(pairs: Mapping[bytes, bytes], names: Mapping[bytes, str]) -> dict[str, int]:
    """The numbers of those ``pairs`` that have a name in ``names``, by it."""
    return {name: int(pairs[key]) for key, name in names.items() if key in pairs}


def _cpu(files: GroupFiles) -> Stats:
    # cpu.stat is the core's: it exists, with the usage alone, without the controller too.
    found: Stats = chosen(files.pairs("cpu.stat"), _CPU_KEYS)
    found["psi"] = _psi(files.content("cpu.pressure"))
    return found


def _memory(files: GroupFiles) -> Stats:
    pairs = files.pairs("memory.stat")
    found: Stats = chosen(pairs, _MEMORY_KEYS)
    for name, parts in _SPLIT.items():
        found[name] = sum(int(pairs.get(part, 0)) for part in parts)
    for name, file in _MEMORY_FILES.items():
        found[name] = files.number(file)
    found["psi"] = _psi(files.content("memory.pressure"))
    return found


def _psi(content: bytes) -> Stats:
    """``some avg10=0.00 avg60=0.00 avg300=0.00 total=0``, and mostly the same line for ``full``."""
    found = {}
    for line in content.splitlines():
        kind, *words = line.split()
        avg10, avg60, avg300, total = (word.partition(b"=")[2] for word in words)
        found[kind.decode()] = {
            "avg10": float(avg10), "avg60": float(avg60), "avg300": float(avg300), "total": int(total),
        }  # fmt: skip
    return found


def _io(files: GroupFiles, *, enabled: bool) -> Stats:
    usage = _io_entries(files.content("io.stat")) if enabled else []
    return {"usage": usage, "psi": _psi(files.content("io.pressure"))}


def _io_entries(content: bytes) -> list[dict[str, int]]:
    """Lines of ``8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6``; a device without I/O has only its number."""
    entries = []
    for line in content.splitlines():
        number, *words = line.split()
        major, separator, minor = number.partition(b":")
        if separator:
            values = dict(word.split(b"=", 1) for word in words)
            entries.append({"major": int(major), "minor": int(minor), **chosen(values, _IO_KEYS)})
    return entries


def _hugetlb(files: GroupFiles) -> list[Stats]:
    return [
        {
            "pagesize": size,
            "current": files.number(f"hugetlb.{size}.current"),
            "max": files.number(f"hugetlb.{size}.max"),
            "failcnt": int(files.pairs(f"hugetlb.{size}.events").get(b"max", 0)),
        }
        for size in hugepage_sizes()
    ]


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


def rdma(files: GroupFiles) -> Stats:
    """Use and limits of RDMA devices, of either version."""
    return {
        "current": _rdma_entries(files.content("rdma.current")),
        "limit": _rdma_entries(files.content("rdma.max")),
    }


def _rdma_entries(content: bytes) -> list[Stats]:
    """Lines of ``mlx4_0 hca_handle=2 hca_object=max``; the message has 32 bits, "max" is all of them."""
    entries: list[Stats] = []
    for line in content.splitlines():
        device, *words = line.split()
        pairs = dict(word.split(b"=", 1) for word in words)
        values = {key: (1 << 32) - 1 if value == b"max" else int(value) for key, value in pairs.items()}
        entries.append(
            {
                "device": device.decode(),
                "hca_handles": values.get(b"hca_handle", 0),
                "hca_objects": values.get(b"hca_object", 0),
            }
        )
    return entries
