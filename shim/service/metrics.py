"""Statistics as containerd's metrics messages.

The dataclasses of ``shim.cgroup`` have the fields of ``io.containerd.cgroups.v1.Metrics`` and ``.v2.Metrics``, name for name;
so what is in the fields makes either. Which fields there are is looked up once for each dataclass.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from google.protobuf.any_pb2 import Any as AnyMessage

from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["to_any"]

_NUMBERS = (int, float, str)


def to_any(statistics: object, *, unified: bool) -> AnyMessage:
    """``statistics`` as the Any of a StatsResponse; the type URL has no prefix, as containerd's typeurl wants it."""
    kind = MetricsV2 if unified else MetricsV1
    message = kind(**_members(statistics))
    return AnyMessage(type_url=kind.DESCRIPTOR.full_name, value=message.SerializeToString())


def _members(values: Any) -> dict[str, Any]:
    """The fields that are not zero, and all parts, as protobuf's constructors take them."""
    names, take = _fields_of(values.__class__)
    found: dict[str, Any] = {}
    for name, value in zip(names, take(values), strict=True):
        if isinstance(value, _NUMBERS):
            if value:
                found[name] = value
        elif isinstance(value, tuple):
            found[name] = [_members(item) if is_dataclass(item) else item for item in value]
        else:
            found[name] = _members(value)
    return found


@cache
def _fields_of(kind: Any) -> tuple[tuple[str, ...], Callable[[object], tuple[object, ...]]]:
    names = tuple(field.name for field in fields(kind))
    return names, attrgetter(*names)  # of two names and more it returns a tuple
