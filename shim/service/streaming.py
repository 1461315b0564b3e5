"""containerd.services.streaming.v1.Streaming: standard streams over ttrpc, for a client that wants no FIFOs.

A client opens one stream per standard stream, names its id, is answered at once, and may do so before there is a process
with that id. From then on it is bytes in one direction and permission for more bytes in the other: the receiver says how
many it takes, and the sender sends no more than that.

Source: containerd core/streaming and core/transfer/streaming.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from shim.errors import InvalidArgument
from shim.process.tasks import first_of
from shim.proto.streaming_pb2 import StreamInit
from shim.proto.transfer_pb2 import Data, WindowUpdate
from shim.transport.calls import Method
from shim.ttrpc import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shim.stdio import Channel, Exchange
    from shim.transport.calls import CallContext
    from shim.transport.streams import Stream

__all__ = ["StreamingService"]

_CHUNK = 32 << 10
_WINDOW = 64 << 10

_Content = TypeVar("_Content", bound=Message)


class StreamingService:
    """Brings the streams of clients together with those of processes."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def services(self) -> Mapping[str, Mapping[str, Method]]:
        """The one method, ready for a server."""
        method = Method(self.stream, AnyMessage, kind=Kind.BIDI_STREAM)
        return {"containerd.services.streaming.v1.Streaming": {"Stream": method}}

    async def stream(self, stream: Stream, _: CallContext) -> None:
        """One standard stream of a process, to its end or as long as the client likes."""
        first = await stream.receive()
        if first is None:
            return
        stream_id = _content(first, StreamInit).id
        await stream.send(_packed(Empty()))
        channel = await self._exchange.find(stream_id)
        async with channel.held() as still_ours:
            if channel.to_process:
                await first_of(_take(stream, channel), channel.withdrawn.wait())
            else:
                window = _Window()
                await first_of(_give(stream, channel, window, still_ours), _widen(stream, window))


class _Window:
    """How much the client still takes."""

    def __init__(self) -> None:
        self.left = 0
        self._open = asyncio.Event()

    def widen(self, by: int) -> None:
        self.left += by
        self._open.set()

    async def opened(self) -> int:
        """How much may be sent, once it is something."""
        while self.left <= 0:
            self._open.clear()
            await self._open.wait()
        return self.left


async def _give(stream: Stream, channel: Channel, window: _Window, still_ours: Callable[[], bool]) -> None:
    """Output goes to the client until its end."""
    while True:
        limit = min(await window.opened(), _CHUNK)
        await stream.writable()
        # From the read to the write there is no wait: what is read is on its way, or is not read.
        data = await channel.read(limit, lambda: stream.open and still_ours())
        if not data:
            return
        stream.write(_packed(Data(data=data)))
        window.left -= len(data)


async def _widen(stream: Stream, window: _Window) -> None:
    """The client's permissions are noted until it wants no more."""
    while (message := await stream.receive()) is not None:
        update = _content(message, WindowUpdate).update
        if update < 0:
            raise InvalidArgument(f"a window cannot be widened by {update}")
        window.widen(update)


async def _take(stream: Stream, channel: Channel) -> None:
    """Input goes to the process until the client ends it."""
    await stream.send(_packed(WindowUpdate(update=_WINDOW)))
    left, taken = _WINDOW, 0
    while (message := await stream.receive()) is not None:
        data = _content(message, Data).data
        left -= len(data)
        if left < 0:
            raise InvalidArgument(f"{-left} bytes more than the window of {_WINDOW} allows")
        channel.write(data)
        await channel.drained()
        taken += len(data)
        if taken >= _WINDOW // 2:
            await stream.send(_packed(WindowUpdate(update=taken)))
            left, taken = left + taken, 0
    channel.finish()


def _packed(message: Message) -> AnyMessage:
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def _content(message: AnyMessage, wanted: type[_Content]) -> _Content:
    name = wanted.DESCRIPTOR.full_name
    if message.type_url.rpartition("/")[2] != name:
        raise InvalidArgument(f"a stream message of type {message.type_url!r} came where {name} was due")
    try:
        return wanted.FromString(message.value)
    except DecodeError as error:
        raise InvalidArgument(f"a {name} cannot be decoded") from error
