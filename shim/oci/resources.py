"""Limits: the LinuxResources object of config.json and of Update, and the words people write them in.

A LinuxResources stays the dict that it is; ``merge`` lays one over another, as a limit on the command line is laid
over what the bundle asks for.

Source: runtime-spec config-linux.md, "Control groups".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from shim.errors import InvalidArgument
from shim.oci.schema import (
    BOOLEAN,
    INT64,
    TEXT,
    UINT16,
    UINT32,
    UINT64,
    Json,
    array,
    load_object,
    mapping,
    record,
    string,
)

__all__ = ["RESOURCES", "merge", "parse", "parse_cpus", "parse_size"]

_WEIGHT_DEVICE = record({"major": INT64, "minor": INT64}, weight=UINT16, leafWeight=UINT16)
_THROTTLE_DEVICE = record({"major": INT64, "minor": INT64, "rate": UINT64})
_THROTTLE = array(_THROTTLE_DEVICE, "a list of objects")

RESOURCES = record(
    memory=record(
        limit=INT64,
        reservation=INT64,
        swap=INT64,
        kernel=INT64,
        kernelTCP=INT64,
        swappiness=UINT64,
        disableOOMKiller=BOOLEAN,
        useHierarchy=BOOLEAN,
        checkBeforeUpdate=BOOLEAN,
    ),
    cpu=record(
        shares=UINT64,
        quota=INT64,
        burst=UINT64,
        period=UINT64,
        realtimeRuntime=INT64,
        realtimePeriod=UINT64,
        cpus=TEXT,
        mems=TEXT,
        idle=INT64,
    ),
    pids=record(limit=INT64),
    blockIO=record(
        weight=UINT16,
        leafWeight=UINT16,
        weightDevice=array(_WEIGHT_DEVICE, "a list of objects"),
        throttleReadBpsDevice=_THROTTLE,
        throttleWriteBpsDevice=_THROTTLE,
        throttleReadIOPSDevice=_THROTTLE,
        throttleWriteIOPSDevice=_THROTTLE,
    ),
    hugepageLimits=array(record({"pageSize": TEXT, "limit": UINT64}), "a list of objects"),
    network=record(
        classID=UINT32, priorities=array(record({"name": TEXT, "priority": UINT32}), "a list of objects")
    ),
    rdma=mapping(record(hcaHandles=UINT32, hcaObjects=UINT32), "an object of objects"),
    unified=mapping(TEXT, "an object of strings"),
    devices=array(
        record(
            {"allow": BOOLEAN},
            type=string("one of a, b, c, p, u", lambda s: s in {"", "a", "b", "c", "p", "u"}),
            major=INT64,
            minor=INT64,
            access=string("some of the letters r, w, m", lambda s: not set(s) - set("rwm")),
        ),
        "a list of objects",
    ),
)


def parse(data: bytes, origin: str) -> Json:
    """The LinuxResources in the JSON text ``data``.

    Raises:
        InvalidArgument: not JSON, or a member of the wrong type; names ``origin`` and the member.
    """
    return load_object(data, RESOURCES, origin)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """``base`` with every member that ``over`` has; objects are merged, lists and all else replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtpe]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_POWER = {unit: 1024**power for power, unit in enumerate(("", "k", "m", "g", "t", "p", "e"))}
_MAX_BYTES = 2**63 - 1


def parse_size(text: str) -> int:
    """The bytes that ``64m``, ``1.5g``, ``512KiB`` or ``1048576`` mean; units are powers of 1024, parts of a byte cut.

    Raises:
        InvalidArgument: it is not written like that, or does not fit 63 bits.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise InvalidArgument(f"memory size {text!r} is not a number of bytes such as 67108864, 64m or 1.5g")
    number, unit = match.groups()
    size = Decimal(number) * _POWER[unit.lower()]
    if size > _MAX_BYTES:
        raise InvalidArgument(f"memory size {text!r} is more than {_MAX_BYTES} bytes")
    return int(size.to_integral_value(ROUND_FLOOR))


_CPUS = re.compile(r"\d{1,6}(?:\.\d{0,9})?|\.\d{1,9}", re.ASCII)
_NANOS = 1_000_000_000


def parse_cpus(text: str) -> int:
    """The billionths of a CPU that ``1.5`` or ``0.25`` mean, exactly.

    Raises:
        InvalidArgument: it is no decimal number above 0 with at most nine digits after the point.
    """
    nanos = int(Decimal(text) * _NANOS) if _CPUS.fullmatch(text) else 0
    if nanos == 0:
        raise InvalidArgument(f"number of CPUs {text!r} is not a number above 0 such as 2, 1.5 or 0.25")
    return nanos
