"""The directories of the containers that were made here, and the records in them.

    <state root>/containers/<id>/        0700, made here, given to the shim as bundle
        record.json                      written here, once the shim serves
        config.json                      derived from the bundle's
        fifos/ exec/                     streams of the container and of its execs
        output.log                       what it wrote, unless it runs in the foreground or --log-file says where
        exit.json shim.log init.pid      the shim's

The directory is the claim on the id: who makes it owns the id until it is removed.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound, ShimError, from_os_error
from shim.store import records

if TYPE_CHECKING:
    from shim.containers.task_client import Task

__all__ = ["Container", "Containers", "ExitRecord", "Record"]


@dataclass(frozen=True, slots=True)
class Record:
    """What must be known of a container that was made here."""

    id: str
    bundle: str
    """The bundle as the user named it, absolute."""
    created_at: str
    """RFC 3339, UTC."""
    address: str
    shim_pid: int
    shim_started: int
    """Start time of the shim in clock ticks since boot: with the pid it names one process for ever."""
    runtime: str
    terminal: bool
    interactive: bool
    """Whether there is a stdin FIFO."""
    log_file: str
    """Where output goes; empty: into FIFOs."""
    auto_remove: bool


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a container ended, as its shim wrote it down."""

    status: int
    exited_at_ns: int
    oom_killed: bool


@dataclass(frozen=True, slots=True)
class Container:
    """A container's directory. Whether anything else of it is left is another question."""

    id: str
    directory: Path

    def record(self) -> Record:
        """The record.

        Raises:
            FailedPrecondition: there is none: whoever made the directory did not get that far, or is about to.
            DataLoss: it is broken.
        """
        try:
            data = records.load(self.directory / "record.json")
        except NotFound:
            raise FailedPrecondition(
                f"container {self.id} has no record; it is being made, or that was cut short: "
                f"ocishim delete --force {self.id}"
            ) from None
        if data.keys() != {field.name for field in fields(Record)}:
            raise DataLoss(f"{self.directory / 'record.json'} has other members than a record of a container")
        return Record(**data)

    def save(self, record: Record) -> None:
        """``record`` is on disk."""
        records.save(self.directory / "record.json", asdict(record))

    def exit_record(self) -> ExitRecord | None:
        """How it ended; None where the shim did not see that, or it has not ended."""
        try:
            data: dict[str, Any] = records.load(self.directory / "exit.json")
            return ExitRecord(int(data["status"]), int(data["exited_at_ns"]), bool(data.get("oom_killed")))
        except (ShimError, KeyError, ValueError):
            return None

    def connect(self) -> Task:
        """A connection to the task of this container, for the caller to close.

        Raises:
            Unavailable: its shim is gone.
            FailedPrecondition: it has no record.
        """
        from shim.containers.task_client import Task  # noqa: PLC0415 - protobuf, which not every verb needs

        return Task.connect(self.id, self.record().address)

    def remove(self) -> None:
        """The directory is gone, and the id free. Idempotent."""
        try:
            shutil.rmtree(self.directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os_error(error, f"cannot remove {self.directory}") from error


class Containers:
    """All containers below one state directory."""

    def __init__(self, state_root: str) -> None:
        self._directory = Path(state_root) / "containers"

    def claim(self, container_id: str) -> Container:
        """A new container of that id, with an empty directory that nobody else can enter.

        Raises:
            AlreadyExists: the id is taken.
            ShimError: the state directory cannot be used.
        """
        directory = self._directory / container_id
        try:
            # Not with parents=True alone: that would give the state directory the caller's umask.
            self._directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            directory.mkdir(mode=0o700)
        except OSError as error:
            if isinstance(error, FileExistsError) and directory.is_dir():
                hint = f"choose another id, or remove it: ocishim delete {container_id}"
                raise AlreadyExists(f"container {container_id} exists already; {hint}") from None
            hint = "use --state-root, or set XDG_RUNTIME_DIR" if os.geteuid() else "use another --state-root"
            failed = from_os_error(error, f"state directory {directory.parent} cannot be used")
            raise type(failed)(f"{failed}; {hint}") from error
        return Container(container_id, directory)

    def get(self, container_id: str) -> Container:
        """The container of that id.

        Raises:
            NotFound: there is none here.
        """
        container = Container(container_id, self._directory / container_id)
        if not container.directory.is_dir():
            raise NotFound(
                f"container {container_id} does not exist in {self._directory}; see what does: ocishim list"
            )
        return container

    def ids(self) -> list[str]:
        """All ids, sorted; none where there is no state directory.

        Raises:
            ShimError: it cannot be read.
        """
        try:
            return sorted(entry.name for entry in os.scandir(self._directory) if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, f"cannot read {self._directory}") from error

    def all(self) -> list[Container]:
        """Every container, sorted by id."""
        return [Container(name, self._directory / name) for name in self.ids()]

    def choose(self, ids: tuple[str, ...]) -> list[Container]:
        """Those of ``ids``, or all where none are named.

        Raises:
            NotFound: one of them does not exist.
        """
        return [self.get(name) for name in ids] if ids else self.all()
