"""The shim of a container, for whoever has an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.containers.task_client import NAMESPACE
from shim.process.thread import in_thread
from shim.sandbox.task_client import TaskClient, dial

if TYPE_CHECKING:
    from shim.containers.containers import Container

__all__ = ["connected"]


async def connected(container: Container) -> TaskClient:
    """A connection to the shim of ``container``, for the caller to close.

    Raises:
        Unavailable: its shim is gone.
        FailedPrecondition: it has no record.
    """
    record = await in_thread(container.record)
    return TaskClient(await dial(f"the shim of container {container.id}", record.address), NAMESPACE)
