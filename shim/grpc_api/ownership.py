"""Which containers were made through the API, and whether that was finished.

The first API has no call that removes a container: one is gone when it has ended. A file in its directory says that it is
ours to remove, and, until it has been started, who is making it: what a daemon that was killed had begun is cleared away by
the next one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.containers.shim_process import ShimProcess
from shim.errors import DataLoss, NotFound
from shim.store import records

if TYPE_CHECKING:
    from shim.containers.containers import Container

__all__ = ["Ownership", "begin", "finish", "ownership"]

_FILE = "api.json"


@dataclass(frozen=True, slots=True)
class Ownership:
    """How far a container of ours has come."""

    made: bool
    abandoned: bool
    """It is not made, and whoever was at it is gone."""


def begin(container: Container) -> None:
    """``container`` is ours, and this process is making it."""
    us = ShimProcess.of(os.getpid())
    record = {"pid": us.pid, "started": us.started}
    records.save(container.directory / _FILE, record, synced=False)


def finish(container: Container) -> None:
    """``container`` is made."""
    records.save(container.directory / _FILE, {"pid": 0, "started": 0}, synced=False)


def ownership(container: Container) -> Ownership | None:
    """None: it is not ours."""
    with suppress(NotFound, DataLoss):
        record = records.load(container.directory / _FILE)
        maker = ShimProcess(int(record["pid"]), int(record["started"]))
        return Ownership(not maker.pid, bool(maker.pid) and not maker.alive())
    return None
