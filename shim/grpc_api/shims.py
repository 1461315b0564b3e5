"""Connections to the shims of containers, from the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.containers.connection import connected
from shim.oci.identifiers import validate_id
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from shim.containers.containers import Container, Containers
    from shim.sandbox.task_client import TaskClient

__all__ = ["Shims"]


class Shims:
    """Those of ``containers``."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def container(self, container_id: str) -> Container:
        """The container of that id.

        Raises:
            InvalidArgument: no container can have that id.
            NotFound: there is none.
        """
        return await in_thread(self._containers.get, validate_id(container_id))

    async def connect(self, container_id: str) -> TaskClient:
        """A connection to the shim of that container, for the caller to close.

        Raises:
            InvalidArgument: no container can have that id.
            NotFound: there is no such container.
            FailedPrecondition: it is just being made.
            Unavailable: its shim is gone.
        """
        return await connected(await self.container(container_id))
