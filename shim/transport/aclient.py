"""The client for an event loop: what a shim uses to talk to containerd.

One connection, dialled by ``connect``; it is not dialled again when it is lost, which its user sees as Unavailable.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from shim.errors import DeadlineExceeded, Internal, ShimError, Unavailable, from_code
from shim.proto.ttrpc_pb2 import KeyValue, Request, Response
from shim.transport.calls import NAMESPACE_KEY
from shim.transport.client import socket_path
from shim.ttrpc.connection import Connection, Role
from shim.ttrpc.events import RemoteProtocolError, ResponseReceived, StreamRejected

if TYPE_CHECKING:
    from shim.ttrpc.events import Event

__all__ = ["AsyncClient"]

_Answer = TypeVar("_Answer", bound=Message)


class AsyncClient(asyncio.Protocol):
    """Any number of calls at once over one connection; use ``connect``, and ``close`` at the end."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._machine = Connection(Role.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, asyncio.Future[bytes]] = {}

    @classmethod
    async def connect(cls, address: str, timeout_s: float) -> AsyncClient:
        """A client that is connected to ``address``, ``unix:///path`` or a path.

        Raises:
            InvalidArgument: the address cannot be one.
            Unavailable: nobody listens there, or does not accept in time.
        """
        path = socket_path(address)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, client = await loop.create_unix_connection(lambda: cls(path), path)
        except TimeoutError:
            raise Unavailable(f"{path}: not connected within {timeout_s:g} s") from None
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror or error}") from error
        return client

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._transport is None

    async def call(
        self,
        service: str,
        method: str,
        request: Message,
        answer: type[_Answer],
        *,
        timeout_s: float,
        namespace: str = "",
    ) -> _Answer:
        """The answer of the server.

        Raises:
            ShimError: by the code of the answer; DeadlineExceeded, Unavailable.
        """
        if self._transport is None:
            raise Unavailable(f"{self._peer}: the connection is closed")
        envelope = Request(
            service=service,
            method=method,
            payload=request.SerializeToString(),
            timeout_nano=int(timeout_s * 1e9),
            metadata=[KeyValue(key=NAMESPACE_KEY, value=namespace)] if namespace else [],
        )
        stream_id, wire = self._machine.open_stream(envelope.SerializeToString())
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[bytes] = loop.create_future()
        self._calls[stream_id] = outcome
        # asyncio.timeout would do, and take as long as half of the rest does.
        timer = loop.call_later(timeout_s, _late, outcome)
        try:
            self._transport.write(wire)
            payload = await outcome
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self._peer}: {service}/{method}: no answer in {timeout_s:g} s"
            ) from None
        finally:
            timer.cancel()
            # An answer that comes after all belongs to nobody.
            self._machine.forget(stream_id)
            self._calls.pop(stream_id, None)
        return _decoded(payload, answer, f"{self._peer}: {service}/{method}")

    def close(self) -> None:
        """The connection is closed; calls that wait fail with Unavailable."""
        if self._transport is not None:
            self._transport.abort()
            self._lost("closed here")

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            for event in self._machine.receive_data(data):
                self._event(event)
        except RemoteProtocolError as error:
            if self._transport is not None:
                self._transport.abort()
            self._lost(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._lost(str(exc or "the peer closed the connection"))

    def _event(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self._settle(event.stream_id, event.payload)
        elif isinstance(event, StreamRejected):
            self._settle(event.stream_id, from_code(event.code, event.text))

    def _settle(self, stream_id: int, outcome: bytes | ShimError) -> None:
        waiting = self._calls.get(stream_id)
        if waiting is None or waiting.done():
            return
        if isinstance(outcome, ShimError):
            waiting.set_exception(outcome)
        else:
            waiting.set_result(outcome)

    def _lost(self, why: str) -> None:
        self._transport = None
        for stream_id in list(self._calls):
            self._settle(stream_id, Unavailable(f"{self._peer}: {why}"))


def _late(outcome: asyncio.Future[bytes]) -> None:
    if not outcome.done():
        outcome.set_exception(TimeoutError())


def _decoded(payload: bytes, answer: type[_Answer], what: str) -> _Answer:
    try:
        response = Response.FromString(payload)
        if response.status.code:
            raise from_code(response.status.code, response.status.message)
        return answer.FromString(response.payload)
    except DecodeError as error:
        raise Internal(f"{what}: the answer cannot be decoded") from error
