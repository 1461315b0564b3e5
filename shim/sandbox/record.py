"""What is kept of a sandbox, so that another process finds it: its directory, and the record in it.

    <state root>/sandboxes/<id>/      0700; who makes it owns the id
        record.json                   the configuration, the state, the shim's address
        netns                         the network namespace, mounted
        containers/<id>/              bundle of a container, see ``Bundle``
        sandbox.json pod/ shim.log    the shim's

Whoever changes the sandbox holds the lock of the directory, reads the record, and writes it before it lets go; who dies
meanwhile leaves the record from before, and the kernel drops the lock.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import AlreadyExists, DataLoss, NotFound, ShimError, from_os_error
from shim.linux.locks import locked_directory
from shim.process.thread import in_thread
from shim.sandbox.bundle import Bundle
from shim.sandbox.config import SandboxConfig
from shim.sandbox.states import State
from shim.store.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Record", "SandboxDirectory"]


@dataclass(frozen=True, slots=True)
class Record:
    """One sandbox."""

    config: SandboxConfig
    state: State
    address: str
    """Of its shim."""
    created_at_ns: int
    gvisor: bool
    """Whether it has a kernel of its own, of which the host can change nothing while it runs."""


class SandboxDirectory:
    """The directory of the sandbox ``sandbox_id``, whether it exists or not; its record is in ``storage``."""

    def __init__(self, state_root: str, sandbox_id: str, storage: str = "filesystem") -> None:
        """Nothing is made.

        Raises:
            InvalidArgument: there is no such storage.
        """
        self.id = sandbox_id
        self._storage = open_storage(storage, Path(state_root))
        self._key = f"sandboxes/{sandbox_id}/record"
        self.path = Path(state_root, "sandboxes", sandbox_id)
        self.socket_dir = f"{state_root}/s"

    @property
    def netns(self) -> str:
        """The file of its network namespace."""
        return str(self.path / "netns")

    def container_ids(self) -> list[str]:
        """Its containers, sorted."""
        with suppress(FileNotFoundError):
            return sorted(os.listdir(self.path / "containers"))
        return []

    def bundle(self, container_id: str) -> Bundle:
        """That of a container, whether there is one or not."""
        return Bundle(self.path / "containers" / container_id)

    def claim(self) -> None:
        """The directory exists, is empty, and nobody else's.

        Raises:
            AlreadyExists: the id is taken.
            ShimError: it cannot be made.
        """
        try:
            self.path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            raise AlreadyExists(f"sandbox {self.id} exists already") from None
        except OSError as error:
            raise from_os_error(error, f"sandbox {self.id} cannot be made") from error

    def load(self) -> Record:
        """The record.

        Raises:
            NotFound: there is no such sandbox, or it is not made yet.
            DataLoss: the record is broken.
        """
        try:
            found = self._storage.load(self._key)
        except NotFound:
            raise NotFound(f"sandbox {self.id} does not exist") from None
        try:
            return Record(
                SandboxConfig.from_dict(found["config"]),
                State(found["state"]),
                str(found["address"]),
                int(found["created_at_ns"]),
                bool(found["gvisor"]),
            )
        except (KeyError, ValueError, TypeError, ShimError) as error:
            raise DataLoss(f"the record of sandbox {self.id} is broken: {error}") from error

    async def save(self, record: Record) -> None:
        """``record`` is on disk, in place of the one before."""
        members = {
            "config": record.config.to_dict(),
            "state": record.state.value,
            "address": record.address,
            "created_at_ns": record.created_at_ns,
            "gvisor": record.gvisor,
        }
        await in_thread(self._storage.save, self._key, members)

    def forget(self) -> None:
        """There is no record."""
        self._storage.delete(self._key)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[Record]:
        """The record, which nobody else changes while the body runs.

        Raises:
            NotFound: there is no such sandbox.
        """
        with ExitStack() as stack:
            try:
                await in_thread(stack.enter_context, locked_directory(str(self.path)))
            except FileNotFoundError:
                raise NotFound(f"sandbox {self.id} does not exist") from None
            yield self.load()
