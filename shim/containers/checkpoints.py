"""Checkpoints of containers, each under a name of its container's; they stay when that is gone, and outlive a boot.

    <data root>/checkpoints/<container>/<name>/        the image, as the runtime wrote it, complete
        .checkpoint.json                               what was asked for, written here
    <data root>/checkpoints/<container>/.making-<token>/
        <name>/ .checkpoint.json                       one that is being written
    <data root>/checkpoints/<container>/.deleted-<token>/  one that is being deleted

A checkpoint is renamed into its place when it is complete. Whoever writes one has its directory locked, so that what a crash
has left is known from what is going on; ``take_over`` gives it to somebody else, since a shim goes on writing when whoever
asked it has died.

All calls may block for as long as a disk does.

Source: rename(2), ENOTEMPTY: a directory takes the place of an empty one only.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from shim.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, ShimError, from_os_error
from shim.linux.locks import is_locked, locked_directory
from shim.oci.identifiers import validate_id
from shim.store import records

__all__ = ["Checkpoint", "Checkpoints", "Unfinished", "validate_name"]

# Which no name of a checkpoint can be.
_RECORD = ".checkpoint.json"
_MAKING = ".making-"
_DELETED = ".deleted-"


def validate_name(name: str) -> str:
    """``name``, which is fit to be that of a checkpoint.

    Raises:
        InvalidArgument: it is none; says why.
    """
    if name.startswith("."):
        raise InvalidArgument(f"checkpoint name {name!r} must not begin with '.'")
    return validate_id(name, "checkpoint name")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was asked for when it was written."""

    name: str
    runtime: str
    """The kind of runtime that wrote it: no other kind can read it."""
    exit: bool = False
    tcp: bool = False
    unix_sockets: bool = False
    shell: bool = False


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A checkpoint that is being written, or was when somebody died; to be given to ``finish`` or ``discard``."""

    container_id: str
    checkpoint: Checkpoint
    image: Path
    """The directory for the runtime."""
    lock: ExitStack = field(default_factory=ExitStack)


class Checkpoints:
    """Those below one data directory."""

    def __init__(self, data_root: str) -> None:
        self._top = Path(data_root, "checkpoints")

    def image(self, container_id: str, name: str) -> Path:
        """The image of the checkpoint of that name.

        Raises:
            InvalidArgument: a name that none can have.
            NotFound: there is no such checkpoint.
        """
        path = self._directory(container_id) / validate_name(name)
        if not path.is_dir():
            raise NotFound(f"container {container_id} has no checkpoint {name}")
        return path

    def get(self, container_id: str, name: str) -> Checkpoint:
        """What is known of it.

        Raises:
            InvalidArgument: a name that none can have.
            NotFound: there is no such checkpoint.
            DataLoss: its record is broken.
        """
        return _read(self.image(container_id, name) / _RECORD)

    def find(self, container_id: str, name: str) -> Checkpoint:
        """As ``get``, and also one whose image is written and which is about to be finished.

        Raises:
            ShimError: as ``get``.
        """
        with suppress(NotFound):
            return self.get(container_id, name)
        for making in self._directory(container_id).glob(f"{_MAKING}*/{name}"):
            with suppress(NotFound):
                return _read(making.parent / _RECORD)
        # It was finished between the two.
        return self.get(container_id, name)

    def of(self, container_id: str) -> list[Checkpoint]:
        """All of that container, by name.

        Raises:
            ShimError: they cannot be read.
        """
        try:
            entries = sorted(os.listdir(self._directory(container_id)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, f"checkpoints of container {container_id} cannot be read") from error
        found = []
        for name in entries:
            # One may be deleted while we look.
            with suppress(NotFound):
                if not name.startswith("."):
                    found.append(self.get(container_id, name))
        return found

    def begin(self, container_id: str, checkpoint: Checkpoint) -> Unfinished:
        """There is an empty directory for its image.

        Raises:
            InvalidArgument: a name that none can have.
            AlreadyExists: there is one of that name.
            ShimError: it cannot be made.
        """
        directory = self._directory(container_id)
        name = validate_name(checkpoint.name)
        if (directory / name).exists():
            raise _taken(container_id, name)
        image = directory / f"{_MAKING}{os.urandom(8).hex()}" / name
        with ExitStack() as lock:
            try:
                # Not with parents=True alone: that would give the upper ones the caller's umask.
                for parent in (self._top.parent, self._top, directory, image.parent):
                    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock.enter_context(locked_directory(str(image.parent)))
                records.save(image.parent / _RECORD, asdict(checkpoint))
                image.mkdir(mode=0o700)
            except OSError as error:
                raise from_os_error(error, f"a checkpoint cannot be stored in {directory}") from error
            return Unfinished(container_id, checkpoint, image, lock.pop_all())

    def finish(self, unfinished: Unfinished) -> None:
        """The checkpoint is there.

        Raises:
            AlreadyExists: another one of that name was finished meanwhile; this one is discarded.
            ShimError: it cannot be stored; nothing of it is left.
        """
        making, image, name = unfinished.image.parent, unfinished.image, unfinished.checkpoint.name
        try:
            (making / _RECORD).rename(image / _RECORD)
            image.rename(making.parent / name)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise _taken(unfinished.container_id, name) from None
            raise from_os_error(error, f"checkpoint {image} cannot be stored") from error
        finally:
            self.discard(unfinished)

    def discard(self, unfinished: Unfinished) -> None:
        """Nothing of it is left, but what was finished. Idempotent."""
        with unfinished.lock:
            shutil.rmtree(unfinished.image.parent, ignore_errors=True)
        self._forget_empty(unfinished.container_id)

    def delete(self, container_id: str, name: str) -> None:
        """It is gone.

        Raises:
            InvalidArgument: a name that none can have.
            NotFound: there is no such checkpoint.
            ShimError: it cannot be deleted.
        """
        path = self.image(container_id, name)
        grave = path.with_name(f"{_DELETED}{os.urandom(8).hex()}")
        try:
            # Under its name it is complete or not there.
            path.rename(grave)
            shutil.rmtree(grave)
        except OSError as error:
            raise from_os_error(error, f"checkpoint {path} cannot be deleted") from error
        self._forget_empty(container_id)

    def take_over(self) -> list[Unfinished]:
        """All that whoever wrote them did not get to finish; what was half deleted is gone."""
        found = [_taken_over(making) for making in self._top.glob(f"*/{_MAKING}*/")]
        for grave in self._top.glob(f"*/{_DELETED}*/"):
            shutil.rmtree(grave, ignore_errors=True)
        return [each for each in found if each is not None]

    def _directory(self, container_id: str) -> Path:
        return self._top / validate_id(container_id)

    def _forget_empty(self, container_id: str) -> None:
        with suppress(OSError):
            self._directory(container_id).rmdir()


def _taken(container_id: str, name: str) -> AlreadyExists:
    return AlreadyExists(
        f"container {container_id} has a checkpoint {name} already; delete it first, or choose another name"
    )


def _read(path: Path) -> Checkpoint:
    try:
        data = records.load(path)
    except NotFound as error:
        raise DataLoss(f"a checkpoint has no record: {error}") from error
    if data.keys() != {each.name for each in fields(Checkpoint)}:
        raise DataLoss(f"{path} has other members than a record of a checkpoint")
    return Checkpoint(**data)


def _taken_over(making: Path) -> Unfinished | None:
    """None: somebody is at it, or it had hardly begun, and is gone."""
    with suppress(OSError), ExitStack() as lock:
        if is_locked(str(making)):
            return None
        lock.enter_context(locked_directory(str(making)))
        try:
            checkpoint = _read(making / _RECORD)
        except ShimError:
            shutil.rmtree(making, ignore_errors=True)
            return None
        return Unfinished(making.parent.name, checkpoint, making / checkpoint.name, lock.pop_all())
    return None
