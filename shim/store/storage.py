"""Where records are kept: three verbs over names, and who may offer others.

A name has parts with slashes between them (``sandboxes/s1/record``); a record is one JSON object. ``filesystem`` keeps each
in a file of its own. ``leveldb`` keeps all in one database, which only one process can have open: it is opened for one call
at a time, under a lock. Further ones are entry points of the group ``ocishim.storage``, each a callable that takes the
directory.

Source: Kata's storage.Save, Load and Delete; plyvel's documentation.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shim.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unimplemented, from_os_error
from shim.linux.locks import locked_directory
from shim.store import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["FileStorage", "LevelDBStorage", "Storage", "open_storage"]

_GROUP = "ocishim.storage"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)


class Storage(Protocol):
    """What keeps records. Every call may block for as long as a disk does; any number of processes may call."""

    def save(self, key: str, value: Mapping[str, Any]) -> None:
        """``value`` is kept under ``key``, in place of what was; a crash leaves the old one or the new one.

        Raises:
            InvalidArgument: ``key`` is no name.
            ShimError: it cannot be kept.
        """

    def load(self, key: str) -> dict[str, Any]:
        """What is kept under ``key``.

        Raises:
            NotFound: nothing is.
            DataLoss: it is broken.
        """

    def delete(self, key: str) -> None:
        """Nothing is kept under ``key``. Right when it is done again.

        Raises:
            ShimError: it cannot be deleted.
        """


def _parts(key: str) -> list[str]:
    parts = key.split("/")
    if not all(_PART.fullmatch(part) for part in parts):
        raise InvalidArgument(
            f"{key!r} is no name of a record: use letters, digits, '_', '-', '.' and '/' between parts"
        )
    return parts


class FileStorage:
    """``<directory>/<key>.json``, as ``records`` writes them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _path(self, key: str) -> Path:
        *above, name = _parts(key)
        return Path(self._directory, *above, f"{name}.json")

    def save(self, key: str, value: Mapping[str, Any]) -> None:
        """See ``Storage``."""
        path = self._path(key)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, f"cannot save {key}") from error
        records.save(path, value)

    def load(self, key: str) -> dict[str, Any]:
        """See ``Storage``."""
        return records.load(self._path(key))

    def delete(self, key: str) -> None:
        """See ``Storage``."""
        records.delete(self._path(key))


class LevelDBStorage:
    """A LevelDB in ``<directory>/leveldb``."""

    def __init__(self, directory: Path) -> None:
        """Nothing is opened yet.

        Raises:
            Unimplemented: plyvel is not installed.
        """
        try:
            import plyvel  # noqa: PLC0415 - an extra, which few install
        except ImportError as error:
            raise Unimplemented("storage 'leveldb' needs plyvel: pip install 'ocishim[leveldb]'") from error
        self._plyvel = plyvel
        self._directory = directory

    def save(self, key: str, value: Mapping[str, Any]) -> None:
        """See ``Storage``."""
        body = json.dumps({"schema": records.SCHEMA, **value}, allow_nan=False).encode("ascii")
        with self._open(key) as database:
            database.put(key.encode(), body, sync=True)

    def load(self, key: str) -> dict[str, Any]:
        """See ``Storage``."""
        with self._open(key) as database:
            body = database.get(key.encode())
        if body is None:
            raise NotFound(f"{key} does not exist")
        return records.parse(body, key)

    def delete(self, key: str) -> None:
        """See ``Storage``."""
        with self._open(key) as database:
            database.delete(key.encode(), sync=True)

    @contextmanager
    def _open(self, key: str) -> Iterator[Any]:
        _parts(key)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked_directory(str(self._directory)):
                database = self._plyvel.DB(str(self._directory / "leveldb"), create_if_missing=True)
                try:
                    yield database
                finally:
                    database.close()
        except self._plyvel.CorruptionError as error:
            raise DataLoss(f"the database in {self._directory} is broken: {error}") from error
        except self._plyvel.Error as error:
            raise FailedPrecondition(f"the database in {self._directory} cannot be used: {error}") from error
        except OSError as error:
            raise from_os_error(error, f"the database in {self._directory} cannot be used") from error


_OURS: Mapping[str, Callable[[Path], Storage]] = {"filesystem": FileStorage, "leveldb": LevelDBStorage}


def open_storage(name: str, directory: Path) -> Storage:
    """The storage of that name, in ``directory``.

    Raises:
        InvalidArgument: there is none of that name.
        Unimplemented: what it needs is not installed.
    """
    if name in _OURS:
        return _OURS[name](directory)
    for entry in entry_points(group=_GROUP, name=name):
        made: Storage = entry.load()(directory)
        return made
    others = sorted(entry.name for entry in entry_points(group=_GROUP))
    raise InvalidArgument(f"storage {name!r}: use one of {', '.join([*_OURS, *others])}")
