"""Statistics as containerd's metrics messages.

The dataclasses of ``shim.cgroup`` have the fields of ``io.containerd.cgroups.v1.Metrics`` and ``.v2.Metrics``, name for name;
so one loop over the fields fills either.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage

from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["to_any"]


def to_any(statistics: object, *, unified: bool) -> AnyMessage:
    """``statistics`` as the Any of a StatsResponse; the type URL has no prefix, as containerd's typeurl wants it."""
    message: Message = MetricsV2() if unified else MetricsV1()
    _fill(message, statistics)
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def _fill(message: Message, values: object) -> None:
    for field in fields(values):  # type: ignore[arg-type]  # a dataclass, at every level
        value = getattr(values, field.name)
        if isinstance(value, tuple | list):
            target = getattr(message, field.name)
            if value and is_dataclass(value[0]):
                for item in value:
                    _fill(target.add(), item)
            else:
                target.extend(value)
        elif is_dataclass(value):
            part = getattr(message, field.name)
            part.SetInParent()
            _fill(part, value)
        elif value:
            setattr(message, field.name, value)
