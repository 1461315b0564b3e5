"""The calls of ``types.API`` that are answered once, over the containers that ``ocishim list`` shows.

Whatever changes something runs in a task of its own: the call may be cancelled or reach its deadline at any moment, and what
was begun is then taken back where nobody waits for it.

Source: containerd of December 2015, api/grpc/server.
"""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from typing import TYPE_CHECKING, TypeVar

from shim.containers.checkpoints import Checkpoints
from shim.containers.containers import Containers
from shim.containers.snapshot import alook
from shim.errors import InvalidArgument
from shim.grpc_api import messages, requests
from shim.grpc_api.checkpointing import Checkpointing
from shim.grpc_api.consoles import Console, Followers
from shim.grpc_api.create import created, wanted
from shim.grpc_api.endings import Endings
from shim.grpc_api.processes import add_process, send_signal
from shim.grpc_api.shims import Shims
from shim.process.thread import in_thread
from shim.proto import first_api_pb2 as wire
from shim.sandbox.task_client import signal_number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from shim.config import Config
    from shim.containers.containers import Container
    from shim.grpc_api.calls import Context
    from shim.sandbox.task_client import TaskClient

__all__ = ["Api"]

_AT_ONCE = 32
_GONE_S = 10.0

_Result = TypeVar("_Result")


async def _at_once(_: str) -> None:
    return


class Api:
    """``open`` first, and ``close`` at the end, when no call is taken any more.

    ``told`` returns when the end of a container was told to whoever listens, or need not be. ``started`` is awaited when a
    process has been added, before its shim may forget it.
    """

    def __init__(
        self,
        config: Config,
        told: Callable[[str], Awaitable[None]] = _at_once,
        started: Callable[[str], Awaitable[None]] = _at_once,
        open_files: int = -1,
    ) -> None:
        """``open_files`` is the soft limit of descriptors of what is started; -1: ours."""
        self._open_files = open_files
        self._started = started
        self._config = config
        self._containers = Containers(config.state_root)
        self._shims = Shims(self._containers)
        self._endings = Endings(self._containers, told)
        self._checkpointing = Checkpointing(Checkpoints(config.data_root), self._shims)
        self._followers = Followers()
        self._changes: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """What was made before is known, and what was cut short is cleared away, or will be soon.

        Raises:
            ShimError: what is there cannot be read.
        """
        await self._checkpointing.open()
        for container in await self._endings.open():
            self._followers.resume(container)

    async def close(self) -> None:
        """Nothing is going on any more. The containers stay as they are."""
        if self._changes:
            await asyncio.wait(self._changes)
        await self._checkpointing.close()
        await self._followers.close()
        await self._endings.close()

    # Calls.

    async def create_container(
        self, request: wire.CreateContainerRequest, _: Context
    ) -> wire.CreateContainerResponse:
        """A container was made of a bundle, or of a checkpoint, and runs."""
        return wire.CreateContainerResponse(pid=await self._change(self._create(request)))

    async def _create(self, request: wire.CreateContainerRequest) -> int:
        asked = wanted(self._config, request, self._open_files)
        await self._endings.settle(asked.id)
        runtime = asked.config.runtime
        async with self._checkpointing.reading(asked.id, request.checkpoint, runtime) as image:
            console = Console(request.console) if request.console else None
            try:
                container, pid = await created(asked, console, image)
            except BaseException:
                if console is not None:
                    console.close()
                raise
        self._endings.watch(container)
        if console is not None:
            self._followers.follow(console, container)
        return pid

    async def update_container(
        self, request: wire.UpdateContainerRequest, _: Context
    ) -> wire.UpdateContainerResponse:
        """The init got a signal, and the container is paused or runs, as asked for."""
        if request.status not in {"", "paused", "running"}:
            raise InvalidArgument(f"status {request.status!r} is none to be set; 'paused' and 'running' are")
        if not request.signal and not request.status:
            raise InvalidArgument("there is nothing to update: give a signal, a status, or both")
        number = signal_number(request.signal) if request.signal else 0
        await self._change(self._update(request.id, number, request.status))
        return wire.UpdateContainerResponse()

    async def _update(self, container_id: str, number: int, status: str) -> None:
        with closing(await self._shims.connect(container_id)) as client:
            if number:
                await client.kill(container_id, "", number)
            if not status or (await client.inspect(container_id))["status"] == status:
                return
            await (client.pause(container_id) if status == "paused" else client.resume(container_id))

    async def signal(self, request: wire.SignalRequest, _: Context) -> wire.SignalResponse:
        """A process in the container got the signal."""
        number = signal_number(request.signal)
        container = await self._shims.container(request.id)
        with closing(await self._shims.connect(request.id)) as client:
            await self._change(send_signal(client, container, request.pid, number))
        return wire.SignalResponse()

    async def add_process(self, request: wire.AddProcessRequest, _: Context) -> wire.AddProcessResponse:
        """A process runs beside the init."""
        container = await self._shims.container(request.id)
        return wire.AddProcessResponse(pid=await self._change(self._add(container, request)))

    async def _add(self, container: Container, request: wire.AddProcessRequest) -> int:
        with closing(await self._shims.connect(container.id)) as client:
            if not request.console:
                exec_id, pid = await add_process(client, container, request, None)
            else:
                exec_id, pid = await self._add_on_console(client, container, request)
        await self._started(container.id)
        self._endings.watch_exec(container, exec_id)
        return pid

    async def _add_on_console(
        self, client: TaskClient, container: Container, request: wire.AddProcessRequest
    ) -> tuple[str, int]:
        console = Console(requests.absolute("console", request.console))
        try:
            with console.raw():
                exec_id, pid = await add_process(client, container, request, console)
        except BaseException:
            console.close()
            raise
        self._followers.follow(console, container, exec_id)
        return exec_id, pid

    async def create_checkpoint(
        self, request: wire.CreateCheckpointRequest, _: Context
    ) -> wire.CreateCheckpointResponse:
        """The container has a checkpoint of that name; with ``exit`` it has ended, and its id is free."""
        container = await self._shims.container(request.id)
        await self._checkpointing.create(container.id, request.checkpoint)
        if request.checkpoint.exit:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GONE_S):
                    await self._endings.gone(container.id)
        return wire.CreateCheckpointResponse()

    async def delete_checkpoint(
        self, request: wire.DeleteCheckpointRequest, _: Context
    ) -> wire.DeleteCheckpointResponse:
        """There is no such checkpoint any more."""
        await self._change(self._checkpointing.delete(request.id, request.name))
        return wire.DeleteCheckpointResponse()

    async def list_checkpoint(
        self, request: wire.ListCheckpointRequest, _: Context
    ) -> wire.ListCheckpointResponse:
        """Those of a container, also when that is gone."""
        found = await self._checkpointing.of(request.id)
        return wire.ListCheckpointResponse(checkpoints=map(messages.checkpoint_message, found))

    async def state(self, _: wire.StateRequest, __: Context) -> wire.StateResponse:
        """All containers, and this machine."""
        some = asyncio.Semaphore(_AT_ONCE)

        async def look(container: Container) -> wire.Container | None:
            async with some:
                return await self._described(container)

        found = await asyncio.gather(*map(look, await in_thread(self._containers.all)))
        return wire.StateResponse(
            containers=[each for each in found if each is not None], machine=await in_thread(messages.machine)
        )

    async def _described(self, container: Container) -> wire.Container | None:
        snapshot = await alook(container)
        # It may have gone while we looked.
        if not snapshot.details and not container.directory.is_dir():
            return None
        return await messages.container_message(container, snapshot)

    async def _change(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """What ``work`` returns. Who is cancelled cancels it, and does not wait until it is taken back."""
        task = asyncio.create_task(work)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            task.cancel()
            raise
