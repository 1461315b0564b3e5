"""GetStats: what a container uses, again and again until it ends.

However many streams there are on one container at one interval, it is looked at once for all of them, and the answer is put
into bytes once. A stream whose client does not keep up skips what it has missed: there is always just one Stats to send.
The first comes at once, the others every ``ocishim-interval`` seconds (metadata; 1 where there is none).

The stream ends, with status OK, when the container has ended: that is heard of by Wait, and not at the next look.

Source: the first API's GetStats; containerd of December 2015, supervisor/stats_collector.go.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from shim.errors import FailedPrecondition, InvalidArgument, NotFound, ShimError, Unavailable
from shim.grpc_api.calls import metadata_number, send_metadata
from shim.grpc_api.interfaces import Interfaces
from shim.grpc_api.usage import to_cgroup_stats
from shim.proto.first_api_pb2 import Stats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from google.protobuf.any_pb2 import Any as AnyMessage

    from shim.grpc_api.calls import Context
    from shim.proto.first_api_pb2 import StatsRequest

__all__ = ["INTERVAL_KEY", "StatsStreams", "TaskConnection"]

INTERVAL_KEY = "ocishim-interval"

_DEFAULT_S = 1.0
_SHORTEST_S = 0.1
_LONGEST_S = 3600.0


class TaskConnection(Protocol):
    """What is asked of the shim of a container, over a connection that its user closes."""

    async def stats(self, container_id: str) -> AnyMessage:
        """The answer to Stats."""

    async def wait(self, container_id: str) -> int:
        """The container has ended."""

    async def inspect(self, container_id: str) -> Mapping[str, Any]:
        """All about it."""

    def close(self) -> None:
        """What waits for an answer fails with Unavailable."""


class _Samples:
    """The looks at one container, one every ``interval_s``, for as long as anybody ``uses`` them."""

    def __init__(
        self, container_id: str, interval_s: float, connect: Callable[[str], Awaitable[TaskConnection]]
    ) -> None:
        self._id = container_id
        self._interval_s = interval_s
        self._connect = connect
        self._changed = asyncio.Event()
        self.users = 0
        self.number = 0
        self.newest = b""
        self.over = False
        self.error: Exception | None = None
        """Why there is nothing more, unless the container has ended."""
        self.task = asyncio.create_task(self._run())

    async def after(self, number: int) -> bool:
        """There is a sample that is newer than ``number``; False: there will be none.

        Raises:
            ShimError: the container cannot be looked at.
        """
        while self.number <= number and not self.over:
            await self._changed.wait()
        if self.over and self.error is not None:
            raise self.error
        return not self.over

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _run(self) -> None:
        try:
            connection = await self._connect(self._id)
            try:
                await self._look(connection)
            finally:
                connection.close()
        except Exception as error:  # noqa: BLE001 - each stream raises it
            self.error = error
        finally:
            self.over = True
            self._tell()

    async def _look(self, connection: TaskConnection) -> None:
        about = await connection.inspect(self._id)
        if about["exit_status"] is not None:
            raise FailedPrecondition(f"container {self._id} has ended")
        end = asyncio.ensure_future(connection.wait(self._id))
        interfaces = Interfaces.of(about["pid"])
        try:
            await self._look_until(end, connection, interfaces)
        finally:
            interfaces.close()
            end.cancel()
            with suppress(asyncio.CancelledError, ShimError):
                await end

    async def _look_until(
        self, end: asyncio.Future[int], connection: TaskConnection, interfaces: Interfaces
    ) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not end.done():
            try:
                cgroup = to_cgroup_stats(await connection.stats(self._id))
            except (NotFound, Unavailable):
                # It has been deleted, shim and all, if Wait fails with the same.
                if not end.done():
                    await asyncio.wait([end], timeout=self._interval_s)
                if not end.done():
                    raise
                return
            sample = Stats(network_stats=interfaces.read(), cgroup_stats=cgroup, timestamp=int(time.time()))
            self.newest = sample.SerializeToString()
            self.number += 1
            self._tell()
            # Where looks take longer than the interval, those that are overdue are left out.
            due = max(due + self._interval_s, loop.time())
            await asyncio.wait([end], timeout=due - loop.time())
        with suppress(NotFound):
            # Unavailable: the shim was killed, and whether the container goes on nobody knows.
            end.result()


class StatsStreams:
    """All streams. ``connect`` gives a connection to the shim of a container."""

    def __init__(self, connect: Callable[[str], Awaitable[TaskConnection]]) -> None:
        self._connect = connect
        self._samples: dict[tuple[str, float], _Samples] = {}

    async def get_stats(self, request: StatsRequest, context: Context) -> None:
        """Stats are written until the container has ended, or the client goes.

        Raises:
            InvalidArgument: no id, or no interval that can be.
            NotFound: there is no such container.
            FailedPrecondition: it has ended.
        """
        if not request.id:
            raise InvalidArgument("the id of the container is missing")
        samples = self._join(request.id, _interval(context))
        try:
            await send_metadata(context)
            number = 0
            while await samples.after(number):
                number = samples.number
                await context.write(samples.newest)
        finally:
            await self._leave(samples)

    def _join(self, container_id: str, interval_s: float) -> _Samples:
        key = (container_id, interval_s)
        samples = self._samples.get(key)
        if samples is None or samples.over:
            samples = self._samples[key] = _Samples(container_id, interval_s, self._connect)
        samples.users += 1
        return samples

    async def _leave(self, samples: _Samples) -> None:
        samples.users -= 1
        if samples.users:
            return
        for key in [k for k, v in self._samples.items() if v is samples]:
            del self._samples[key]
        samples.task.cancel()
        with suppress(asyncio.CancelledError):
            await samples.task


def _interval(context: Context) -> float:
    given = metadata_number(context, INTERVAL_KEY, float)
    if given is None:
        return _DEFAULT_S
    if not math.isfinite(given) or not _SHORTEST_S <= given <= _LONGEST_S:
        raise InvalidArgument(
            f"the metadata {INTERVAL_KEY} is {given:g}; from {_SHORTEST_S:g} to {_LONGEST_S:g} seconds are possible"
        )
    return given
