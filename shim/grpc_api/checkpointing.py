"""The checkpoints of containers: written, read, deleted; and what a daemon that was killed in the middle of one has left.

A shim writes an image to the end, whoever has asked for it and gone. So a call that is cancelled leaves its work to a task of
ours, which throws away what nobody wants any more. Not so if the container has ended with it: then the checkpoint is all that
is left of it, and stays. A daemon that starts does the same with what was written meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Any

from shim.containers.checkpoints import Checkpoint, validate_name
from shim.errors import AlreadyExists, FailedPrecondition, ShimError
from shim.process.thread import in_thread
from shim.runtime.registry import kind_of_name
from shim.sandbox.task_client import CheckpointFlags
from shim.task.checkpoint import IMAGE_NOTE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from shim.containers.checkpoints import Checkpoints, Unfinished
    from shim.grpc_api.shims import Shims
    from shim.proto import first_api_pb2 as wire

__all__ = ["Checkpointing"]

_LOOK_S = 0.1
_CLOSE_S = 5.0

_log = logging.getLogger(__name__)


class _Writing:
    """A checkpoint that is being written for a call."""

    wanted = True


class Checkpointing:
    """``open`` first, and ``close`` at the end."""

    def __init__(self, checkpoints: Checkpoints, shims: Shims) -> None:
        self._checkpoints = checkpoints
        self._shims = shims
        self._busy: dict[tuple[str, str], str] = {}
        """What is being done with which."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """What others have left is being finished or thrown away."""
        for unfinished in await in_thread(self._checkpoints.take_over):
            key = (unfinished.container_id, unfinished.checkpoint.name)
            self._begin(key, self._recover(unfinished), "being finished")

    async def close(self) -> None:
        """No task is left; what they did not get to finish is left to the next daemon."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(self, container_id: str, wanted: wire.Checkpoint) -> None:
        """The container has that checkpoint.

        Raises:
            AlreadyExists: it has one of that name, or soon will have.
            FailedPrecondition: it does not run.
            InvalidArgument: the name is none.
            NotFound: there is no such container.
            ShimError: the runtime could not write it; there is none.
        """
        key = (container_id, validate_name(wanted.name))
        if key in self._busy:
            raise AlreadyExists(f"checkpoint {wanted.name} of container {container_id} is {self._busy[key]}")
        writing = _Writing()
        task = self._begin(key, self._write(container_id, wanted, writing), "being written")
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            writing.wanted = False
            raise

    async def delete(self, container_id: str, name: str) -> None:
        """There is no such checkpoint any more.

        Raises:
            FailedPrecondition: a container is just made of it.
            InvalidArgument: the name is none.
            NotFound: there was none.
        """
        if doing := self._busy.get((container_id, name)):
            raise FailedPrecondition(f"checkpoint {name} of container {container_id} is {doing}")
        await in_thread(self._checkpoints.delete, container_id, name)

    async def of(self, container_id: str) -> list[Checkpoint]:
        """Those of the container, be it there or not.

        Raises:
            NotFound: there are none, nor is there such a container.
        """
        found = await in_thread(self._checkpoints.of, container_id)
        if not found:
            await self._shims.container(container_id)
        return found

    @asynccontextmanager
    async def reading(self, container_id: str, name: str, runtime: str) -> AsyncIterator[Path | None]:
        """The image of a checkpoint, which is there while the block runs; None without a name.

        Raises:
            FailedPrecondition: it is being written, or by a runtime of another kind than ``runtime``.
            InvalidArgument: the name is none.
            NotFound: there is none.
        """
        if not name:
            yield None
            return
        key = (container_id, name)
        if key in self._busy:
            raise FailedPrecondition(f"checkpoint {name} of container {container_id} is {self._busy[key]}")
        self._busy[key] = "being restored"
        try:
            yield await in_thread(self._readable, container_id, name, runtime)
        finally:
            del self._busy[key]

    def _readable(self, container_id: str, name: str, runtime: str) -> Path:
        found = self._checkpoints.get(container_id, name)
        kind = kind_of_name(runtime.rpartition("/")[2])
        if kind is not None and kind != found.runtime:
            raise FailedPrecondition(
                f"checkpoint {name} was written by {found.runtime}, {kind} cannot read it"
            )
        return self._checkpoints.image(container_id, name)

    def _begin(self, key: tuple[str, str], work: Coroutine[Any, Any, None], doing: str) -> asyncio.Task[None]:
        self._busy[key] = doing
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def _ended(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        self._tasks.discard(done)
        self._busy.pop(key, None)
        # Who waited for it has got the error; when it was cancelled, nobody did.
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.info("checkpoint %s of container %s: %s", key[1], key[0], error)

    async def _write(self, container_id: str, wanted: wire.Checkpoint, writing: _Writing) -> None:
        with closing(await self._shims.connect(container_id)) as client:
            kind = (await client.inspect(container_id))["runtime_kind"]
            checkpoint = Checkpoint(
                wanted.name, kind, wanted.exit, wanted.tcp, wanted.unixSockets, wanted.shell
            )
            unfinished = await in_thread(self._checkpoints.begin, container_id, checkpoint)
            flags = CheckpointFlags(wanted.exit, wanted.tcp, wanted.unixSockets, wanted.shell)
            try:
                await client.checkpoint(container_id, str(unfinished.image), flags)
            except ShimError:
                await in_thread(self._checkpoints.discard, unfinished, always=True)
                raise
            except asyncio.CancelledError:
                unfinished.lock.close()
                raise
        wants = writing.wanted or wanted.exit
        await in_thread(
            self._checkpoints.finish if wants else self._checkpoints.discard, unfinished, always=True
        )

    async def _recover(self, unfinished: Unfinished) -> None:
        try:
            await self._until_written(unfinished.container_id)
        except asyncio.CancelledError:
            unfinished.lock.close()
            raise
        complete = await in_thread((unfinished.image / IMAGE_NOTE).exists)
        name = f"{unfinished.checkpoint.name} of container {unfinished.container_id}"
        _log.warning(
            "checkpoint %s was %s when the daemon ended", name, "written" if complete else "not complete"
        )
        await in_thread(
            self._checkpoints.finish if complete else self._checkpoints.discard, unfinished, always=True
        )

    async def _until_written(self, container_id: str) -> None:
        """The shim does not write any more, if it is there."""
        with suppress(ShimError), closing(await self._shims.connect(container_id)) as client:
            while (await client.inspect(container_id)).get("changing"):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(_LOOK_S)
