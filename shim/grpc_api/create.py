"""CreateContainer: a container is made and started, or nothing of it is left.

What may block is done in threads, and each is waited for also when the call is cancelled: what undoes it must not overtake it.

Source: containerd of December 2015, where Create was also Start.
"""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shim.containers import launch
from shim.containers.connection import connected
from shim.errors import InvalidArgument
from shim.grpc_api import ownership, requests
from shim.oci.identifiers import validate_id
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shim.config import Config
    from shim.containers.containers import Container
    from shim.containers.launch import Prepared, Request
    from shim.grpc_api.consoles import Console
    from shim.proto.first_api_pb2 import CreateContainerRequest
    from shim.sandbox.task_client import TaskClient

__all__ = ["created", "wanted"]


def wanted(config: Config, request: CreateContainerRequest, open_files: int) -> Request:
    """What ``request`` asks for; ``open_files`` is the soft limit of descriptors.

    Raises:
        InvalidArgument: it cannot be right.
    """
    if not request.bundlePath:
        raise InvalidArgument("bundlePath is needed: the directory of a bundle")
    return launch.Request(
        bundle=Path(requests.absolute("bundlePath", request.bundlePath)),
        # It is removed by us, when its end was told.
        config=replace(config, auto_remove=False),
        id=validate_id(request.id),
        terminal=bool(request.console),
        streams=requests.streams(request),
        claimed=ownership.begin,
        open_files=open_files,
    )


async def created(request: Request, console: Console | None, image: Path | None) -> tuple[Container, int]:
    """The container, which runs, from ``image`` if there is one, and the pid of its init.

    ``console`` stays the caller's.

    Raises:
        AlreadyExists: the id is taken.
        NotFound: there is no such bundle, file or runtime.
        ShimError: it cannot be made or started; nothing of it is left.
    """
    async with _prepared(request) as ready:
        with ExitStack() as stack:
            if console is not None:
                stack.enter_context(console.raw())
            stack.enter_context(launch.shim_log(ready.container))
            client = stack.enter_context(closing(await connected(ready.container)))
            pid = await _run(client, ready, request.config, console, image)
            await in_thread(ownership.finish, ready.container)
            ready.keep()
    return ready.container, pid


async def _run(
    client: TaskClient, ready: Prepared, config: Config, console: Console | None, image: Path | None
) -> int:
    container_id, streams = ready.container.id, ready.streams
    await client.create(
        container_id,
        str(ready.container.directory),
        (streams.stdin, streams.stdout, streams.stderr),
        terminal=ready.record.terminal,
        checkpoint=str(image or ""),
        options_toml=launch.options_toml(config),
    )
    if console is not None and (size := console.size()) is not None:
        await client.resize(container_id, "", size)
    return await client.start(container_id)


@asynccontextmanager
async def _prepared(request: Request) -> AsyncIterator[Prepared]:
    """As ``launch.prepared``, entered and left in threads."""
    manager = launch.prepared(request)
    entered: list[Prepared] = []
    try:
        await in_thread(lambda: entered.append(manager.__enter__()))
        yield entered[0]
    except BaseException as error:
        if entered:
            await in_thread(manager.__exit__, type(error), error, error.__traceback__, always=True)
        raise
    await in_thread(manager.__exit__, None, None, None, always=True)
