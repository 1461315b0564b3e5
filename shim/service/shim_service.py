"""ocishim.v1.Shim: a shim that can be asked how it is.

One method, one JSON object: for people, for ``ocishim state``, and for whoever looks for a leak.
"""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim import __version__
from shim.proto.ocishim_pb2 import InspectRequest, InspectResponse
from shim.transport.calls import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shim.process import Reaper
    from shim.service.containers import Containers
    from shim.service.publisher import Publisher
    from shim.task import Container, Snapshot
    from shim.task.exec_process import ExecProcess
    from shim.transport.calls import CallContext

__all__ = ["ShimService"]


class ShimService:
    """Looks, and changes nothing."""

    def __init__(
        self, containers: Containers, reaper: Reaper, publisher: Publisher, connections: Callable[[], int]
    ) -> None:
        self._containers = containers
        self._reaper = reaper
        self._publisher = publisher
        self._connections = connections
        self._started = time.monotonic()

    def services(self) -> Mapping[str, Mapping[str, Method]]:
        """The one method, ready for a server."""
        return {"ocishim.v1.Shim": {"Inspect": Method(self.inspect, InspectRequest)}}

    def inspect(self, request: InspectRequest, _: CallContext) -> InspectResponse:
        """Everything about one container, or about the process itself when no id is given."""
        about = _container(self._containers.get(request.id)) if request.id else self._self()
        return InspectResponse(json=json.dumps(about))

    def _self(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "version": __version__,
            "containers": [container.id for container in self._containers],
            "creating": self._containers.creating,
            "connections": self._connections(),
            "events": self._publisher.describe(),
            "fds": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "rss_bytes": _rss_bytes(),
            "threads": threading.active_count(),
            "children": self._reaper.children,
            "orphans_reaped": self._reaper.orphans,
            "uptime_s": round(time.monotonic() - self._started, 3),
        }


def _container(container: Container) -> dict[str, Any]:
    init = container.init.snapshot()
    return {
        **_process(init),
        "bundle": str(container.bundle.path),
        "runtime": container.driver.binary,
        "runtime_kind": container.driver.kind,
        "terminal": init.streams.terminal,
        "changing": container.changing,
        "oom_killed": container.oom_killed,
        "cgroup": container.group.describe(),
        "limits": container.limits,
        "streams": container.init.io.stream_states(),
        "dropped_bytes": container.init.io.dropped,
        "execs": [_exec(process) for process in container.execs.values()],
        "created_at": _when(container.created_at_ns),
        "started_at": _when(container.started_at_ns),
    }


def _exec(process: ExecProcess) -> dict[str, Any]:
    return {
        **_process(process.snapshot()),
        "process": process.spec,
        "streams": process.io.stream_states(),
        "dropped_bytes": process.io.dropped,
    }


def _process(process: Snapshot) -> dict[str, Any]:
    ended = process.exit
    return {
        "id": process.id,
        "pid": process.pid,
        "status": process.state.value,
        "exit_status": None if ended is None else ended.status,
        "exited_at": None if ended is None else _when(ended.exited_at_ns),
    }


def _when(ns: int | None) -> str | None:
    return None if ns is None else datetime.fromtimestamp(ns / 1e9, UTC).isoformat().replace("+00:00", "Z")


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
