"""The ten calls, with plain arguments, and errors of ours.

Every call has a deadline, ``timeout_s`` of the client; streams have none, they end with their subject or with ``close``.

Source: the first API; grpc.aio.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import grpc

from shim.client.ends import End, Ends
from shim.client.target import Target, TlsFiles
from shim.errors import Canceled, DeadlineExceeded, ShimError, Unavailable, from_code
from shim.proto import first_api_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence

    from google.protobuf.message import Message

__all__ = ["Client", "NumberedEvent"]

_SERVICE = "types.API"
_TIMEOUT_S = 90.0
_LATE_S = 5.0
_RESUME_KEY = "ocishim-resume-after"
_FIRST_KEY = "ocishim-first"
_LAST_KEY = "ocishim-last"
_INTERVAL_KEY = "ocishim-interval"

# What grpc itself says where there is no connection, or none any more; the daemon's own texts are not like that.
_LOST = (
    "failed to connect",
    "Socket closed",
    "recvmsg:",
    "DNS resolution",
    "empty address list",
    "Stream removed",
)

_Answer = TypeVar("_Answer", bound="Message")


class NumberedEvent(NamedTuple):
    """``number`` is where ``Client.events`` can go on after it."""

    number: int
    event: wire.Event


class Client:
    """A connection to a daemon, for one event loop; ``close`` at the end, or use it as a context manager."""

    def __init__(self, url: str, *, tls: TlsFiles | None = None, timeout_s: float = _TIMEOUT_S) -> None:
        """It connects with the first call. ``url``: ``unix:///path``, or ``tcp://host:port`` with ``tls``.

        Raises:
            InvalidArgument: ``url`` is neither, or a file of ``tls`` cannot be read.
        """
        self._url = url
        self._timeout_s = timeout_s
        self._channel = Target.parse(url, tls).channel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Nothing is connected; what waits for an answer fails with Canceled. Idempotent."""
        await self._channel.close()

    async def _call(self, method: str, request: Message, answer: type[_Answer]) -> _Answer:
        call = self._channel.unary_unary(
            f"/{_SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        with self._translating():
            found: _Answer = await call(request, timeout=self._timeout_s)
        return found

    def _stream(self, method: str, request: Message, answer: type[Message], metadata: dict[str, str]) -> Any:
        """A call that has begun, and is to be cancelled at the end."""
        start = self._channel.unary_stream(
            f"/{_SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return start(request, metadata=tuple(metadata.items()))

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from None
        except asyncio.CancelledError:
            # What is going on when the channel is closed looks as if whoever waits for it had been cancelled.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Canceled(f"the connection to the daemon at {self._url} was closed here") from None

    def _translated(self, error: grpc.aio.AioRpcError) -> ShimError:
        text = error.details() or error.code().name
        if error.code() is grpc.StatusCode.UNAVAILABLE and text.startswith(_LOST):
            reason = text.rpartition(" error: ")[2]
            return Unavailable(f"the daemon at {self._url} cannot be reached: {reason}")
        return from_code(error.code().value[0], text)

    # Containers.

    async def create_container(
        self,
        container_id: str,
        bundle_path: str,
        *,
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        console: str = "",
        checkpoint: str = "",
    ) -> int:
        """The container of the bundle, a path on the daemon's host, runs; returns the pid of its init there.

        Raises:
            ShimError: it cannot be made; nothing is left of it.
        """
        request = wire.CreateContainerRequest(
            id=container_id, bundlePath=bundle_path, stdin=stdin, stdout=stdout, stderr=stderr,
            console=console, checkpoint=checkpoint,
        )  # fmt: skip
        return (await self._call("CreateContainer", request, wire.CreateContainerResponse)).pid

    async def update_container(self, container_id: str, *, signal: int = 0, status: str = "") -> None:
        """Its init got ``signal``, and it is ``status``: ``paused`` or ``running``; 0 and empty: neither.

        Raises:
            ShimError: there is no such container, or not in that state.
        """
        request = wire.UpdateContainerRequest(id=container_id, signal=signal, status=status)
        await self._call("UpdateContainer", request, wire.UpdateContainerResponse)

    async def signal(self, container_id: str, pid: int, signal: int) -> None:
        """The process of that pid, on the daemon's host, got ``signal``.

        Raises:
            ShimError: there is no such process in the container.
        """
        request = wire.SignalRequest(id=container_id, pid=pid, signal=signal)
        await self._call("Signal", request, wire.SignalResponse)

    async def add_process(
        self,
        container_id: str,
        args: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str = "",
        user: wire.User | None = None,
        terminal: bool = False,
        streams: tuple[str, str, str] = ("", "", ""),
        console: str = "",
    ) -> int:
        """One more process runs in the container; returns its pid. ``streams``: paths, of stdin, stdout and stderr.

        Raises:
            ShimError: it cannot be started.
        """
        stdin, stdout, stderr = streams
        request = wire.AddProcessRequest(
            id=container_id, args=args, env=env, cwd=cwd, user=user, terminal=terminal,
            stdin=stdin, stdout=stdout, stderr=stderr, console=console,
        )  # fmt: skip
        return (await self._call("AddProcess", request, wire.AddProcessResponse)).pid

    async def state(self) -> wire.StateResponse:
        """All containers with their processes, and the machine."""
        return await self._call("State", wire.StateRequest(), wire.StateResponse)

    async def wait(self, container_id: str, *, timeout_s: float | None = None) -> int:
        """The exit status of the container, once it has ended; also of one that is gone, while its events are kept.

        Raises:
            DeadlineExceeded: it has not ended within ``timeout_s``.
            ShimError: as ``ends``.
        """
        try:
            async with asyncio.timeout(timeout_s), aclosing(self.ends([container_id])) as ends:
                return (await anext(ends)).status
        except TimeoutError:
            raise DeadlineExceeded(f"container {container_id} has not ended in {timeout_s:g} s") from None

    # Checkpoints.

    async def create_checkpoint(self, container_id: str, checkpoint: wire.Checkpoint) -> None:
        """The container's state is kept under the name of ``checkpoint``.

        Raises:
            ShimError: it cannot be taken.
        """
        request = wire.CreateCheckpointRequest(id=container_id, checkpoint=checkpoint)
        await self._call("CreateCheckpoint", request, wire.CreateCheckpointResponse)

    async def delete_checkpoint(self, container_id: str, name: str) -> None:
        """It is kept no more.

        Raises:
            ShimError: there is none of that name.
        """
        request = wire.DeleteCheckpointRequest(id=container_id, name=name)
        await self._call("DeleteCheckpoint", request, wire.DeleteCheckpointResponse)

    async def list_checkpoints(self, container_id: str) -> list[wire.Checkpoint]:
        """Those of the container, also when that is gone."""
        request = wire.ListCheckpointRequest(id=container_id)
        return list((await self._call("ListCheckpoint", request, wire.ListCheckpointResponse)).checkpoints)

    # Streams.

    async def events(self, *, after: int | None = None) -> AsyncIterator[NumberedEvent]:
        """What happens to containers, for ever: from the event after number ``after`` on, else from now on; 0: all that are kept.

        Raises:
            OutOfRange: the events after that number are not kept any more.
            ResourceExhausted: they were not taken quickly enough.
            Unavailable: the daemon ends, or is gone.
        """
        metadata = {} if after is None else {_RESUME_KEY: str(after)}
        call = self._stream("Events", wire.EventsRequest(), wire.Event, metadata)
        try:
            with self._translating():
                number = int(dict(await call.initial_metadata()).get(_FIRST_KEY, 1))
                async for event in call:
                    yield NumberedEvent(number, event)
                    number += 1
        finally:
            call.cancel()

    async def stats(self, container_id: str, *, interval_s: float = 1.0) -> AsyncIterator[wire.Stats]:
        """What the container uses, at once and then every ``interval_s``, until it has ended.

        Raises:
            ShimError: there is no such container, or it has ended before.
        """
        request = wire.StatsRequest(id=container_id)
        metadata = {_INTERVAL_KEY: f"{interval_s:g}"}
        call = self._stream("GetStats", request, wire.Stats, metadata)
        try:
            with self._translating():
                async for stats in call:
                    yield stats
        finally:
            call.cancel()

    async def ends(self, container_ids: Iterable[str]) -> AsyncGenerator[End, None]:
        """Every one of the containers once, when it has ended; those first that had ended before.

        Raises:
            NotFound: there is no such container, and none is remembered.
            FailedPrecondition: it ended so long ago that nothing tells how.
            Unavailable: the daemon ends, or is gone.
        """
        ends = Ends(container_ids, (await self.state()).containers)
        call = self._stream("Events", wire.EventsRequest(), wire.Event, {_RESUME_KEY: "0"})
        try:
            with self._translating():
                metadata = dict(await call.initial_metadata())
                for _ in range(int(metadata[_FIRST_KEY]), int(metadata[_LAST_KEY]) + 1):
                    ends.take(await call.read())
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LATE_S):
                        while ends.late():
                            ends.take(await call.read())
                ends.check()
                for end in ends.over():
                    yield end
                while ends:
                    ends.take(await call.read())
                    for end in ends.over():
                        yield end
        finally:
            call.cancel()
