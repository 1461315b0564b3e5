"""Connections to the shims of containers, from the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.process.thread import in_thread
from shim.sandbox.shim_client import ShimClient

if TYPE_CHECKING:
    from shim.containers.containers import Containers

__all__ = ["Shims"]


class Shims:
    """Those of ``containers``."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def connect(self, container_id: str) -> ShimClient:
        """A connection to the shim of that container, for the caller to close.

        Raises:
            NotFound: there is no such container.
            FailedPrecondition: it is just being made.
            Unavailable: its shim is gone.
        """
        record = await in_thread(lambda: self._containers.get(container_id).record())
        return await ShimClient.connect(container_id, record.address)
