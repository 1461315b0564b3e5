"""The gate before gRPC: a unix socket where peers are looked at, and bytes that go through to a socket nobody else can reach.

grpc does not tell who is at the other end of a unix socket. Each direction has the back-pressure of its own reader, and ends
for itself: a client that sends no more still reads. What is in between is what the kernel and two transports keep, 64 KiB each.

Source: unix(7); asyncio's documentation of transports and protocols.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from shim.daemon.door import Door
from shim.daemon.places import Places

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from shim.catalog.api.metrics import Metrics
    from shim.daemon.admission import Admission

__all__ = ["Gate"]

_API: Final = "grpc"

_log = logging.getLogger(__name__)


class Gate:
    """Lets through to the socket at ``target``. Made inside the event loop."""

    def __init__(self, target: str, admission: Admission, metrics: Metrics, max_connections: int) -> None:
        self.admission = admission
        self.max_connections = max_connections
        self._target = target
        self._metrics = metrics
        self._door = Door()
        self._places = Places()
        self._ends: set[_End] = set()
        self._changed = asyncio.Event()
        metrics.connections.labels(_API).set_function(lambda: len(self._places))

    def listen(self, sock: socket.socket) -> None:
        """Connections to ``sock``, whose ownership is taken, are accepted."""
        self._door.listen(sock, self._accepted)

    def _accepted(self, sock: socket.socket) -> None:
        peer = self.admission.admit(sock)
        if peer is None or not self._places.is_free(self.max_connections, user=peer.uid):
            self._metrics.refused.labels(_API).inc()
            sock.close()
            return
        front = _End(self, self._places.take(user=peer.uid))
        self._door.let_in(sock, self._attach(sock, front), front.leave)

    async def _attach(self, sock: socket.socket, front: _End) -> None:
        loop = asyncio.get_running_loop()
        back = _End(self, _nothing)
        front.other, back.other = back, front
        try:
            # The server first: it speaks first, too, and is not read before there is somebody to write to.
            await loop.create_unix_connection(lambda: back, self._target)
            sock.setblocking(False)
            await loop.connect_accepted_socket(lambda: front, sock)
        except asyncio.CancelledError:
            back.abort()
            raise
        except OSError as error:
            _log.warning("a client cannot be let through to the gRPC API: %s", error)
            front.leave()
            sock.close()
            back.abort()
        else:
            front.begin()
            back.begin()

    def connected(self, end: _End) -> None:
        """``end`` has its transport."""
        self._ends.add(end)

    def disconnected(self, end: _End) -> None:
        """``end`` is gone."""
        self._ends.discard(end)
        end.leave()
        self._changed.set()

    def close(self) -> None:
        """Nothing is accepted any more; connections stay."""
        self._door.close()

    async def stop(self, timeout_s: float) -> None:
        """No connection is left; those that have bytes for a client to read have ``timeout_s`` for that."""
        await self._door.clear()
        for end in list(self._ends):
            end.close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._gone()
        except TimeoutError:
            for end in list(self._ends):
                end.abort()
            await self._gone()

    async def _gone(self) -> None:
        while self._ends:
            self._changed.clear()
            await self._changed.wait()


def _nothing() -> None:
    """What is behind the gate takes nobody's place."""


class _End(asyncio.Protocol):
    """One of two: what it reads, the other writes."""

    other: _End

    def __init__(self, gate: Gate, leave: Callable[[], None]) -> None:
        self._gate = gate
        self.leave = leave
        self._transport: asyncio.Transport | None = None
        self.ended = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        transport.pause_reading()
        self._gate.connected(self)
        if self.other.lost:
            transport.abort()

    def begin(self) -> None:
        """The other is there."""
        if self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.other.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other.ended:
            self.close()
            self.other.close()
        else:
            self.other.write_eof()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        self.other.hold()

    def resume_writing(self) -> None:
        self.other.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self.lost = None, True
        if exc is None:
            self.other.close()
        else:
            self.other.abort()
        self._gate.disconnected(self)

    # What the other asks for; nothing once this one is gone.

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def hold(self) -> None:
        """Nothing is read for now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def close(self) -> None:
        """It closes when what was written is read."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
