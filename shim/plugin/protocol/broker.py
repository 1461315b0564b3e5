"""The broker: further connections between host and plugin, each known by a number that one side tells the other.

That side makes a socket and sends its address down one stream; the other waits for it, five seconds at most, and connects.
How a number comes from one side to the other is the plugin's own affair: as an argument of a call, usually. An address
that nobody asks for in time is forgotten, so that a number that comes round again means what it says.

On a multiplexed connection there are no addresses. Whoever dials knocks with the number, waits for the answer, and opens a
stream, which by its turn is the one for that number.

Source: hashicorp/go-plugin, grpc_broker.go.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from shim.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from shim.plugin.protocol.brokered_server import BrokeredServer
from shim.plugin.protocol.calls import error_of, start_stream
from shim.plugin.protocol.channel import PluginChannel
from shim.plugin.protocol.forwarder import dial
from shim.plugin.protocol.mutual_tls import SERVER_NAME
from shim.proto.plugin_broker_pb2 import ConnInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.errors import ShimError
    from shim.plugin.protocol.forwarder import Stream
    from shim.plugin.protocol.multiplexer import Multiplexer
    from shim.plugin.protocol.mutual_tls import Contexts
    from shim.plugin.protocol.socket_folder import SocketFolder
    from shim.plugin.runner import AttachedRunner

__all__ = ["Broker"]

_log = logging.getLogger(__name__)

_WAIT_S = 5.0

_Opened = TypeVar("_Opened", BrokeredServer, PluginChannel)


class Broker:
    """One plugin's further connections, of both directions; ``close`` ends them all."""

    def __init__(
        self,
        runner: AttachedRunner,
        shared: SocketFolder,
        private: SocketFolder,
        tls: Contexts | None,
        mux: Multiplexer | None = None,
    ) -> None:
        """Sockets for the plugin are made in ``shared``, those for ourselves in ``private``."""
        self._mux = mux
        self._doors: dict[int, str] = {}
        self._knocked: set[int] = set()
        self._runner = runner
        self._shared = shared
        self._private = private
        self._tls = tls
        self._ids = itertools.count(1)
        self._offers: dict[int, asyncio.Future[ConnInfo]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._opened: set[BrokeredServer | PluginChannel] = set()
        self._stream: grpc.aio.StreamStreamCall[ConnInfo, ConnInfo] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self._error: ShimError | None = None

    def start(self, channel: grpc.aio.Channel) -> None:
        """What the plugin tells is heard from now on."""
        self._stream = start_stream(channel)
        self._reading = asyncio.get_running_loop().create_task(self._read(self._stream))

    def next_id(self) -> int:
        """A number that this has not returned before."""
        return next(self._ids)

    async def accept_and_serve(
        self, service_id: int, handlers: Sequence[grpc.GenericRpcHandler]
    ) -> BrokeredServer:
        """The plugin can dial ``service_id``, where ``handlers`` answer until the server is closed.

        Through TLS a plugin in Go can do that since go-plugin 1.4.4.

        Raises:
            Unavailable: the plugin has ended.
            Unimplemented: it has no broker.
            ShimError: there can be no socket.
        """
        server = self._kept(BrokeredServer(handlers))
        try:
            await self._offer_to_plugin(service_id, server)
        except BaseException:
            await server.close()
            raise
        return server

    async def dial(self, service_id: int) -> PluginChannel:
        """A channel to what the plugin serves at ``service_id``; the caller closes it, or ``close`` does.

        Raises:
            DeadlineExceeded: it does not offer that within five seconds. Multiplexed, the first call on the channel fails
                instead.
            Unavailable: the plugin has ended.
            Unimplemented: it has no broker.
        """
        if self._mux is not None:
            return self._kept(await PluginChannel.through(lambda: self._enter(service_id), self._private))
        info = await self._told(service_id, f"the plugin offered no connection {service_id}")
        network, address = self._runner.plugin_to_host(info.network, info.address)
        return self._kept(await self._channel(network, address))

    async def close(self) -> None:
        """No connection is left, and the plugin's broker is told so by the end of the stream."""
        self._fail(Unavailable("the connection to the plugin is closed"))
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        await asyncio.gather(*(opened.close() for opened in self._opened))

    def _closed(self, server: BrokeredServer, service_id: int, path: str) -> None:
        self._opened.discard(server)
        if self._doors.get(service_id) == path:
            del self._doors[service_id]

    def _kept(self, opened: _Opened) -> _Opened:
        """``opened``, to be closed with the broker unless it has been before."""
        self._opened.add(opened)
        opened.on_close = self._opened.discard
        return opened

    async def _offer_to_plugin(self, service_id: int, server: BrokeredServer) -> None:
        tls = None if self._tls is None else self._tls.server
        folder = self._shared if self._mux is None else self._private
        path = (
            await server.start(folder)
            if tls is None
            else await server.start_with_tls(folder, self._private, tls)
        )
        if self._mux is None:
            network, address = self._runner.host_to_plugin("unix", path)
            await self._send(ConnInfo(service_id=service_id, network=network, address=address))
        else:
            self._doors[service_id] = path
            server.on_close = lambda closed: self._closed(closed, service_id, path)
            if service_id in self._knocked:
                await self._open_door(self._mux, service_id)

    async def _enter(self, service_id: int) -> Stream:
        """A stream to what the plugin serves at ``service_id``."""
        assert self._mux is not None  # noqa: S101 - for the type checker

        async def knock() -> None:
            await self._send(ConnInfo(service_id=service_id, knock=ConnInfo.Knock(knock=True)))
            answer = await self._told(service_id, f"the plugin did not answer the knock for {service_id}")
            if not answer.knock.ack or answer.knock.error:
                raise Unavailable(
                    f"connection {service_id} to the plugin: {answer.knock.error or 'it offers another'}"
                )

        return await self._mux.open(None if self._tls is None else self._tls.client, SERVER_NAME, knock)

    async def _open_door(self, mux: Multiplexer, service_id: int) -> None:
        """The plugin, which knocked, may open a stream, which is for the server at ``service_id``."""
        self._knocked.discard(service_id)
        mux.expect(self._doors[service_id])
        await self._send(ConnInfo(service_id=service_id, knock=ConnInfo.Knock(knock=True, ack=True)))

    async def _knock(self, mux: Multiplexer, service_id: int) -> None:
        if service_id in self._doors:
            await self._open_door(mux, service_id)
            return
        # The host may have told the number before it serves there; the plugin waits as long as we would.
        self._knocked.add(service_id)
        asyncio.get_running_loop().call_later(_WAIT_S, self._knocked.discard, service_id)

    async def _told(self, service_id: int, otherwise: str) -> ConnInfo:
        """What the plugin tells of ``service_id``."""
        offer = self._offer(service_id)
        try:
            async with asyncio.timeout(_WAIT_S):
                return await asyncio.shield(offer)
        except TimeoutError:
            raise DeadlineExceeded(f"{otherwise} in {_WAIT_S:g} s") from None
        finally:
            self._forget(service_id, offer)

    async def _channel(self, network: str, address: str) -> PluginChannel:
        if self._tls is None:
            return PluginChannel.straight(network, address)
        tls = self._tls.client
        return await PluginChannel.through(lambda: dial(network, address, tls, SERVER_NAME), self._private)

    async def _send(self, info: ConnInfo) -> None:
        if self._error is not None:
            raise self._error
        if self._stream is None:
            raise FailedPrecondition("the broker has not been started")
        try:
            async with self._sending:
                await self._stream.write(info)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise Unavailable(f"the plugin's broker has ended: {error}") from error

    def _offer(self, service_id: int) -> asyncio.Future[ConnInfo]:
        """What is, or will be, known of ``service_id``."""
        if service_id not in self._offers:
            offer = self._offers[service_id] = asyncio.get_running_loop().create_future()
            if self._error is not None:
                offer.set_exception(self._error)
        return self._offers[service_id]

    def _forget(self, service_id: int, offer: asyncio.Future[ConnInfo]) -> None:
        if self._offers.get(service_id) is offer:
            del self._offers[service_id]
            if (timer := self._timers.pop(service_id, None)) is not None:
                timer.cancel()
        if offer.done():
            offer.exception()  # looked at, whoever waited for it

    async def _read(self, stream: grpc.aio.StreamStreamCall[ConnInfo, ConnInfo]) -> None:
        try:
            async for info in stream:
                if self._mux is not None and info.knock.knock and not info.knock.ack:
                    await self._knock(self._mux, info.service_id)
                else:
                    self._offered(info)
        except grpc.aio.AioRpcError as error:
            self._fail(error_of(error, "the plugin's broker"))
        else:
            self._fail(Unavailable("the plugin's broker has ended"))
        finally:
            stream.cancel()

    def _offered(self, info: ConnInfo) -> None:
        offer = self._offer(info.service_id)
        if offer.done():
            _log.warning("connection %d was offered twice by the plugin", info.service_id)
            return
        offer.set_result(info)
        loop = asyncio.get_running_loop()
        self._timers[info.service_id] = loop.call_later(_WAIT_S, self._forget, info.service_id, offer)

    def _fail(self, error: ShimError) -> None:
        """Nothing more comes from the plugin."""
        self._error = self._error or error
        for service_id, offer in list(self._offers.items()):
            if not offer.done():
                offer.set_exception(self._error)
            self._forget(service_id, offer)
