"""Limits as data: OCI LinuxResources in, a list of writes to cgroup v2 files out. Pure.

``plan`` is total: what the resources ask for becomes a write, or an error that names the field; a limit is never
dropped silently. (Devices are the OCI runtime's: on v2 they are a BPF program, not a file.) Fields that are absent,
null or at their neutral value (0, "") make no write: a plan describes what is set, so an update merges the resources
first.

The order of the writes is that in which the kernel accepts them, whatever the group holds already.

Source: runtime-spec config-linux.md; kernel Documentation/admin-guide/cgroup-v2.rst; runc's conversions from v1 units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LEAST_CPU_NANOS", "Write", "controllers_of", "cpu_nanos_to_quota", "plan"]

_NANOS = 1_000_000_000
_PERIOD_US = 100_000
"""The kernel's default, and the length that we prefer."""
_LEAST_PERIOD_US = 1_000
_GREATEST_PERIOD_US = 1_000_000
_LEAST_QUOTA_US = 1_000
# MAX_BW of kernel/sched: a ratio of quota and period has to fit into 64 bits with a fraction of 20.
_GREATEST_QUOTA_US = (1 << 44) - 1
_U64 = (1 << 64) - 1

LEAST_CPU_NANOS = _LEAST_QUOTA_US * _NANOS // _GREATEST_PERIOD_US
"""The least share that the kernel can enforce: 1 ms in each second."""

_CPU_LIST = re.compile(r"[0-9,:/ -]+")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_PAGE_SIZE = re.compile(r"\d+[KMG]B", re.ASCII)
_RDMA_DEVICE = re.compile(r"[A-Za-z0-9_.-]+")
_FILE_NAME = re.compile(r"[a-z]+(\.[A-Za-z0-9_]+)+")

# Files that act instead of limiting: they move or kill processes, or change what the group is.
_ACTIONS = frozenset(
    {
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
        "cgroup.type",
        "cgroup.kill",
        "cgroup.freeze",
    }
    | {"memory.reclaim"}
)


@dataclass(frozen=True, slots=True)
class Write:
    """One value for one file of a group."""

    file: str
    value: str
    field: str
    """The field of LinuxResources that asks for it."""
    optional: bool = False
    """Nothing is lost where the file does not exist: it would hold this value, or another write does the work."""
    instead: Write | None = None
    """To be done where the file does not exist."""
    not_below: str | None = None
    """A file whose present value must not be above the new one."""

    @property
    def controller(self) -> str:
        """The controller that the file belongs to; ``cgroup`` for the core's own."""
        return self.file.partition(".")[0]

    def describe(self) -> str:
        """``memory.max = 1048576 (memory.limit)``."""
        return f"{self.file} = {self.value} ({self.field})"


def controllers_of(writes: tuple[Write, ...]) -> frozenset[str]:
    """The controllers without which ``writes`` cannot be done."""
    return frozenset(write.controller for write in writes if not write.optional) - {"cgroup"}


def cpu_nanos_to_quota(cpu_nanos: int) -> tuple[int, int]:
    """``(quota, period)`` in microseconds for ``cpu_nanos`` billionths of a CPU.

    Exact, ``quota / period == cpu_nanos / 10**9``, wherever any period of up to a second can express the share, which
    includes every multiple of 1000. The period is then the shortest possible of at least 100 ms: a long one lets a
    container run, and then wait, in long stretches. Other shares get a period of a second and a quota that is rounded
    down: less than a microsecond in each second below what was asked, and never above it.

    Raises:
        InvalidArgument: below the least share that the kernel accepts (1 ms in each second), or far beyond any machine.
    """
    if cpu_nanos < LEAST_CPU_NANOS:
        raise InvalidArgument(
            f"cpu_nanos = {cpu_nanos} is below what the kernel can enforce: "
            f"the least value is {LEAST_CPU_NANOS} (1 ms of CPU time in a second)"
        )
    # The share is a whole number of microseconds exactly in the multiples of this period.
    step = _NANOS // gcd(cpu_nanos, _NANOS)
    least = max(_PERIOD_US, -(-_LEAST_QUOTA_US * _NANOS // cpu_nanos))
    period = min(-(-least // step) * step, _GREATEST_PERIOD_US)
    quota = cpu_nanos * period // _NANOS
    if quota > _GREATEST_QUOTA_US:
        raise InvalidArgument(f"cpu_nanos = {cpu_nanos} is more than the kernel can count")
    return quota, period


def plan(resources: Mapping[str, object]) -> tuple[Write, ...]:
    """The writes that put ``resources`` (LinuxResources as parsed JSON) into force.

    Raises:
        InvalidArgument: a value has a wrong type or is out of range, or the field exists only in cgroup v1; names it.
    """
    top = _Table(resources, "")
    top.table("network").refuse("classID", "priorities")
    return (
        *_cpu(top.table("cpu")),
        *_cpuset(top.table("cpu")),
        *_memory(top.table("memory")),
        *_pids(top.table("pids")),
        *_block_io(top.table("blockIO")),
        *_hugetlb(top),
        *_rdma(top.table("rdma")),
        # Last, so that the file wins that was named as such.
        *_unified(top.table("unified")),
    )


class _Table:
    """A JSON object and its place; absent and null are the same, as in the Go structures of the specification."""

    def __init__(self, values: Mapping[str, object], path: str) -> None:
        self._values = values
        self._path = path

    def at(self, key: str) -> str:
        if not _PLAIN_KEY.fullmatch(key):
            return f"{self._path}[{key[:80]!r}]"
        return f"{self._path}.{key}" if self._path else key

    def keys(self) -> list[str]:
        return list(self._values)

    def wrong(self, key: str, wants: str) -> InvalidArgument:
        value = repr(self._values.get(key))
        shown = value if len(value) <= 80 else f"{value[:77]}..."
        return InvalidArgument(f"linux.resources: {self.at(key)} = {shown} {wants}")

    def integer(self, key: str, least: int = 0, greatest: int = _U64) -> int | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "must be an integer")
        if not least <= value <= greatest:
            raise self.wrong(key, f"must be from {least} to {greatest}")
        return value

    def string(self, key: str) -> str:
        value = self._values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(key, "must be a string")
        return value

    def flag(self, key: str) -> bool:
        value = self._values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return bool(value)

    def table(self, key: str) -> _Table:
        value = self._values.get(key)
        if value is None:
            return _Table({}, self.at(key))
        if not isinstance(value, dict):
            raise self.wrong(key, "must be an object")
        return _Table(value, self.at(key))

    def tables(self, key: str) -> list[_Table]:
        value = self._values.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, "must be a list of objects")
        return [_Table(item, f"{self.at(key)}[{index}]") for index, item in enumerate(value)]

    def refuse(self, *keys: str) -> None:
        for key in keys:
            if self._values.get(key):
                raise self.wrong(key, "has no counterpart in cgroup v2")


def _limit(value: int) -> str:
    return "max" if value == -1 else str(value)


def _cpu(cpu: _Table) -> Iterator[Write]:
    cpu.refuse("realtimeRuntime", "realtimePeriod")
    shares = cpu.integer("shares")
    idle = cpu.integer("idle", 0, 1)
    if shares:
        # A group that is idle now refuses a weight, so it stops being idle first.
        if idle is not None:
            yield Write("cpu.idle", "0", cpu.at("idle"), optional=True)
        yield Write("cpu.weight", str(_weight_of_shares(shares)), cpu.at("shares"))
    if idle is not None and (idle or not shares):
        yield Write("cpu.idle", str(idle), cpu.at("idle"), optional=idle == 0)
    yield from _bandwidth(cpu)


def _weight_of_shares(shares: int) -> int:
    """[2, 262144] onto [1, 10000], as runc does it; the kernel clamps shares that lie outside, so do we."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _bandwidth(cpu: _Table) -> Iterator[Write]:
    quota = cpu.integer("quota", -1, _GREATEST_QUOTA_US) or 0
    if 0 < quota < _LEAST_QUOTA_US:
        raise cpu.wrong(
            "quota", f"is below the least that the kernel accepts, {_LEAST_QUOTA_US} (microseconds)"
        )
    period = cpu.integer("period", 0, _GREATEST_PERIOD_US) or 0
    if 0 < period < _LEAST_PERIOD_US:
        raise cpu.wrong(
            "period", f"is below the least that the kernel accepts, {_LEAST_PERIOD_US} (microseconds)"
        )
    burst = cpu.integer("burst", 0, _GREATEST_QUOTA_US)
    if burst and quota > 0 and burst > quota:
        raise cpu.wrong("burst", f"must not be above cpu.quota = {quota}")
    if not quota and not period:
        if burst is not None:
            yield Write("cpu.max.burst", str(burst), cpu.at("burst"), optional=burst == 0)
        return
    # At every moment burst <= quota must hold: an old burst above the new quota, or a new burst above the old
    # quota, would be refused (EINVAL).
    if burst is not None:
        yield Write("cpu.max.burst", "0", cpu.at("burst"), optional=True)
    text = str(quota) if quota > 0 else "max"
    origin = cpu.at("quota" if quota else "period")
    yield Write("cpu.max", f"{text} {period or _PERIOD_US}", origin, optional=quota <= 0)
    if burst:
        yield Write("cpu.max.burst", str(burst), cpu.at("burst"))


def _cpuset(cpu: _Table) -> Iterator[Write]:
    for key in ("cpus", "mems"):
        value = cpu.string(key).strip()
        if value and not _CPU_LIST.fullmatch(value):
            raise cpu.wrong(key, "must be a list like 0-3,7")
        if value:
            yield Write(f"cpuset.{key}", value, cpu.at(key))


def _memory(memory: _Table) -> Iterator[Write]:
    memory.refuse("swappiness", "kernelTCP", "disableOOMKiller")
    # memory.kernel is ignored as runtime-spec asks: deprecated, and no kernel in support has it.
    limit = memory.integer("limit", -1) or 0
    reservation = memory.integer("reservation", -1) or 0
    swap = _swap_alone(memory, limit)
    if swap is not None:
        # Without swap accounting there is no file: "any" is what the group has, "none" what most hosts then have.
        yield Write("memory.swap.max", swap, memory.at("swap"), optional=swap in {"0", "max"})
    if limit:
        check = "memory.current" if limit > 0 and memory.flag("checkBeforeUpdate") else None
        yield Write("memory.max", _limit(limit), memory.at("limit"), optional=limit == -1, not_below=check)
    if reservation:
        yield Write("memory.low", _limit(reservation), memory.at("reservation"))


def _swap_alone(memory: _Table, limit: int) -> str | None:
    """memory.swap.max from the OCI field, which counts memory and swap together as v1's memsw did."""
    swap = memory.integer("swap", -1) or 0
    if swap == 0:
        # runc: unlimited memory means unlimited swap, too, unless swap is named.
        return "max" if limit == -1 else None
    if swap == -1:
        return "max"
    if limit <= 0:
        raise memory.wrong("swap", "needs memory.limit: it is the sum of memory and swap")
    if swap < limit:
        raise memory.wrong(
            "swap", f"must not be below memory.limit = {limit}: it is the sum of memory and swap"
        )
    return str(swap - limit)


def _pids(pids: _Table) -> Iterator[Write]:
    # 0 is "not set": to runc and crun, and in Go's zero value. -1 and below are "unlimited".
    limit = pids.integer("limit", -(1 << 63), (1 << 63) - 1)
    if limit:
        yield Write("pids.max", str(limit) if limit > 0 else "max", pids.at("limit"), optional=limit < 0)


def _block_io(io: _Table) -> Iterator[Write]:
    io.refuse("leafWeight")
    weight = io.integer("weight")
    if weight:
        yield _weight(io, "weight", weight, "")
    for device in io.tables("weightDevice"):
        device.refuse("leafWeight")
        weight = device.integer("weight")
        if weight:
            yield _weight(device, "weight", weight, f"{_device_number(device)} ")
    yield from _throttles(io)


def _weight(io: _Table, key: str, weight: int, prefix: str) -> Write:
    """BFQ's file takes the OCI unit (10..1000, 100 by default); io.weight has 1..10000, 100 by default."""
    if not 10 <= weight <= 1000:
        raise io.wrong(key, "must be from 10 to 1000")
    plain = Write("io.weight", f"{prefix}{1 + (weight - 10) * 9999 // 990}", io.at(key))
    return Write("io.bfq.weight", f"{prefix}{weight}", io.at(key), instead=plain)


_THROTTLES = {
    "throttleReadBpsDevice": "rbps",
    "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}


def _throttles(io: _Table) -> Iterator[Write]:
    """One write a device: io.max keeps the keys that a write does not name."""
    by_device: dict[str, list[str]] = {}
    fields: dict[str, str] = {}
    for key, name in _THROTTLES.items():
        for device in io.tables(key):
            # A rate of 0 lifts the limit, as it does in v1.
            limit = f"{name}={device.integer('rate') or 'max'}"
            number = _device_number(device)
            by_device.setdefault(number, []).append(limit)
            fields.setdefault(number, device.at("rate"))
    for number, limits in by_device.items():
        yield Write("io.max", f"{number} {' '.join(limits)}", fields[number])


def _device_number(device: _Table) -> str:
    major, minor = device.integer("major", 0, (1 << 12) - 1), device.integer("minor", 0, (1 << 20) - 1)
    if major is None or minor is None:
        raise device.wrong("major" if major is None else "minor", "is missing")
    return f"{major}:{minor}"


def _hugetlb(top: _Table) -> Iterator[Write]:
    for item in top.tables("hugepageLimits"):
        size, limit = item.string("pageSize"), item.integer("limit")
        if not _PAGE_SIZE.fullmatch(size):
            raise item.wrong("pageSize", 'must be a size like "2MB"')
        if limit is None:
            raise item.wrong("limit", "is missing")
        yield Write(f"hugetlb.{size}.max", str(limit), item.at("limit"))
        # Pages are reserved at mmap and used at the first touch; without this limit a container that maps more
        # than it may touch dies of SIGBUS instead of getting ENOMEM. Kernels before 5.7 have no such file.
        yield Write(f"hugetlb.{size}.rsvd.max", str(limit), item.at("limit"), optional=True)


def _rdma(rdma: _Table) -> Iterator[Write]:
    for name in rdma.keys():  # noqa: SIM118 - not a dict
        device = rdma.table(name)
        handles, objects = device.integer("hcaHandles"), device.integer("hcaObjects")
        if not _RDMA_DEVICE.fullmatch(name):
            raise rdma.wrong(name, "is not the name of an RDMA device")
        words = [f"hca_handle={handles}"] if handles is not None else []
        words += [f"hca_object={objects}"] if objects is not None else []
        if words:
            yield Write("rdma.max", f"{name} {' '.join(words)}", rdma.at(name))


def _unified(unified: _Table) -> Iterator[Write]:
    for name in unified.keys():  # noqa: SIM118 - not a dict
        value = unified.string(name)
        if not _FILE_NAME.fullmatch(name):
            raise unified.wrong(name, "does not name a file of a cgroup")
        if name in _ACTIONS:
            raise unified.wrong(name, "is no limit: this file acts on processes or on the tree")
        if not value.isascii() or "\0" in value:
            raise unified.wrong(name, "must be plain text")
        # Files with a line for each device take one line a write.
        for line in value.removesuffix("\n").split("\n"):
            yield Write(name, line, unified.at(name))
