"""One stream of a connection, as its handler sees it: messages in, messages out, either side may end it.

The handler receives until None, sends while it likes, and ends the stream by returning. What comes is queued here and
bounded: ttrpc has no flow control of its own, so a client that sends without being asked for so much loses its stream.
What goes out is the transport's; ``writable`` waits until it has room.

Source: containerd/ttrpc PROTOCOL.md, stream.go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from google.protobuf.message import DecodeError

from shim.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["MAX_QUEUED", "Link", "Stream"]

# Bytes that a handler has not received yet, each message counted with some for itself.
MAX_QUEUED: Final = 1 << 20
_OF_A_MESSAGE: Final = 64


class Link(Protocol):
    """What a stream needs from its connection."""

    def send_message(self, stream_id: int, payload: bytes) -> bool:
        """``payload`` is on its way; False when the stream is gone."""

    async def writable(self) -> None:
        """Return once the connection has room, or is gone."""


class Stream:
    """For one handler, in the loop's thread."""

    def __init__(self, link: Link, stream_id: int, message: type[Message]) -> None:
        self._link = link
        self._id = stream_id
        self._message = message
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._ended = False
        self._news = asyncio.Event()
        self.open = True
        """Whether what is written can still go out."""

    async def receive(self) -> Any:
        """The next message, None once the client sends no more.

        Raises:
            InvalidArgument: it cannot be decoded.
        """
        while not self._queue:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        payload = self._queue.popleft()
        self._queued -= len(payload) + _OF_A_MESSAGE
        try:
            return self._message.FromString(payload)
        except DecodeError as error:
            raise InvalidArgument(f"a message of stream {self._id} cannot be decoded") from error

    def write(self, message: Message) -> None:
        """``message`` is on its way, however little room there is.

        Raises:
            Unavailable: the stream is gone.
            ResourceExhausted: it is larger than a frame can be.
        """
        self.open = self.open and self._link.send_message(self._id, message.SerializeToString())
        if not self.open:
            raise Unavailable(f"stream {self._id} is gone")

    async def writable(self) -> None:
        """Return once the connection has room for more."""
        await self._link.writable()

    async def send(self, message: Message) -> None:
        """``message`` is on its way, once there is room; raises as ``write``."""
        await self.writable()
        self.write(message)

    # What the connection reports.

    def feed(self, payload: bytes) -> bool:
        """A message has come; False when there are too many."""
        self._queued += len(payload) + _OF_A_MESSAGE
        if self._queued > MAX_QUEUED:
            return False
        self._queue.append(payload)
        self._news.set()
        return True

    def feed_end(self) -> None:
        """The client sends no more."""
        self._ended = True
        self._news.set()

    def lost(self) -> None:
        """Nothing goes out any more."""
        self.open = False
