"""What is known of a container at this moment: from its shim, or, when that is gone, from what it wrote down."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shim.errors import FailedPrecondition, NotFound, ShimError, Unavailable

if TYPE_CHECKING:
    from shim.containers.containers import Container, Record

__all__ = ["Snapshot", "alook", "look", "timestamp"]


def timestamp(ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339, UTC."""
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One container. ``status`` is OCI's, or ``unknown`` when its shim is gone without a word."""

    id: str
    status: str
    pid: int = 0
    """Of the init on this host; 0 when there is none."""
    bundle: str = ""
    runtime: str = ""
    created_at: str = ""
    exit_status: int | None = None
    exited_at: str | None = None
    oom_killed: bool = False
    log_file: str = ""
    shim_pid: int = 0
    """0 when the shim is gone."""
    note: str = ""
    """What is out of the ordinary, and what to do."""
    details: dict[str, Any] = field(default_factory=dict)
    """All that the shim says."""

    def status_text(self) -> str:
        """The status for people, with the exit code."""
        if self.exit_status is None:
            return self.status
        why = ", out of memory" if self.oom_killed else ""
        return f"{self.status} ({self.exit_status}{why})"


def look(container: Container) -> Snapshot:
    """What is known of ``container`` now. Raises nothing: what is in the way is part of the answer."""
    try:
        record = container.record()
    except ShimError as error:
        return _without_record(container, error)
    try:
        with container.connect() as task:
            return _from_shim(record, task.inspect())
    except ShimError as error:
        return _without_answer(container, record, error)


async def alook(container: Container) -> Snapshot:
    """As ``look``, from an event loop."""
    # The command line looks at containers without asyncio.
    from shim.containers.connection import connected  # noqa: PLC0415 - start-up time
    from shim.process.thread import in_thread  # noqa: PLC0415

    try:
        record = await in_thread(container.record)
    except ShimError as error:
        return _without_record(container, error)
    try:
        with closing(await connected(container)) as client:
            return _from_shim(record, await client.inspect(container.id))
    except ShimError as error:
        return await in_thread(_without_answer, container, record, error)


def _without_record(container: Container, error: ShimError) -> Snapshot:
    status = "creating" if isinstance(error, FailedPrecondition) else "unknown"
    return Snapshot(container.id, status, note=str(error))


def _without_answer(container: Container, record: Record, error: ShimError) -> Snapshot:
    if isinstance(error, NotFound):
        hint = f"to remove it: ocishim delete --force {record.id}"
        note = f"it is being made or deleted just now, or that was cut short; {hint}"
        return _snapshot(record, "creating", shim_pid=record.shim_pid, note=note)
    if isinstance(error, Unavailable):
        return _from_disk(container, record)
    note = f"its shim does not answer: {error}"
    return _snapshot(record, "unknown", shim_pid=record.shim_pid, note=note)


def _snapshot(record: Record, status: str, **more: Any) -> Snapshot:
    return Snapshot(
        record.id,
        status,
        bundle=record.bundle,
        created_at=record.created_at,
        log_file=record.log_file,
        **{"runtime": record.runtime, **more},
    )


def _from_shim(record: Record, about: dict[str, Any]) -> Snapshot:
    ended = about["exit_status"] is not None
    return _snapshot(
        record,
        about["status"],
        runtime=about["runtime"],
        pid=0 if ended else about["pid"],
        exit_status=about["exit_status"],
        exited_at=about["exited_at"],
        oom_killed=about["oom_killed"],
        shim_pid=record.shim_pid,
        details=about,
    )


def _from_disk(container: Container, record: Record) -> Snapshot:
    ended = container.exit_record()
    if ended is None:
        note = f"its shim is gone, and may have left it running; to remove it: ocishim delete --force {record.id}"
        return _snapshot(record, "unknown", note=note)
    return _snapshot(
        record,
        "stopped",
        exit_status=ended.status,
        exited_at=timestamp(ended.exited_at_ns),
        oom_killed=ended.oom_killed,
        note=f"its shim is gone; to remove what is left: ocishim delete {record.id}",
    )
