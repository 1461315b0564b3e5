"""Statistics as containerd's metrics messages.

What ``shim.cgroup`` reads has the names of ``io.containerd.cgroups.v1.Metrics`` and ``.v2.Metrics``, part for part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage

from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2

if TYPE_CHECKING:
    from shim.cgroup.stats import Stats

__all__ = ["to_any"]


def to_any(statistics: Stats, *, unified: bool) -> AnyMessage:
    """``statistics`` as the Any of a StatsResponse; the type URL has no prefix, as containerd's typeurl wants it."""
    kind = MetricsV2 if unified else MetricsV1
    return AnyMessage(type_url=kind.DESCRIPTOR.full_name, value=kind(**statistics).SerializeToString())
