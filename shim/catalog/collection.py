"""A record that many change: read, changed and written again under one lock.

The storage has no verb that lists, and none that compares and swaps. So whatever must agree with each other (a plugin and
the runtime that it names) is in one record, and whoever changes it has the lock of its directory, which the kernel drops
when its holder dies. Readers need no lock: a record is replaced as a whole.

The lock is not on the storage's own directory: LevelDB's is taken and dropped within every call.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.errors import DataLoss, NotFound, ShimError, Unknown, from_os_error
from shim.linux.locks import locked_directory
from shim.store.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Collection"]


class Collection:
    """One record below ``data_root``, empty until it is changed first. Every call may block for as long as a disk does."""

    def __init__(self, storage: str, data_root: str, name: str) -> None:
        """Nothing is read or made yet.

        Raises:
            InvalidArgument: there is no storage of that name.
            Unimplemented: what it needs is not installed.
        """
        self._storage = open_storage(storage, Path(data_root))
        self._root = Path(data_root)
        self._directory = self._root / name
        self._key = f"{name}/all"

    def load(self) -> dict[str, Any]:
        """What is there now.

        Raises:
            DataLoss: it is broken.
            Unknown: it cannot be read.
        """
        with _ours():
            try:
                return self._storage.load(self._key)
            except NotFound:
                return {}

    @contextmanager
    def changed(self) -> Iterator[dict[str, Any]]:
        """What is there, for the body to change: kept when that ends, and as it was when it raises.

        Nobody else changes it meanwhile. Once the block has ended, the change is on disk.

        Raises:
            DataLoss: it is broken.
            Unknown: it cannot be read or kept.
        """
        with ExitStack() as stack:
            with _ours():
                for directory in (self._root, self._directory):
                    os.makedirs(directory, mode=0o700, exist_ok=True)
                stack.enter_context(locked_directory(str(self._directory)))
            value = self.load()
            yield value
            with _ours():
                self._storage.save(self._key, value)


@contextmanager
def _ours() -> Iterator[None]:
    """What goes wrong with the disk is no matter of the request: a file that may not be read forbids nothing to a client."""
    try:
        yield
    except (DataLoss, Unknown):
        raise
    except ShimError as error:
        raise Unknown(str(error)) from error
    except OSError as error:
        raise Unknown(str(from_os_error(error, "the catalog cannot be used"))) from error
