"""All that goes over the socket of a plugin: the channel for its services, its output, its broker, and the word to end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from shim.errors import FailedPrecondition
from shim.plugin.protocol.broker import Broker
from shim.plugin.protocol.calls import check, error_of, shutdown
from shim.plugin.protocol.channel import PluginChannel
from shim.plugin.protocol.forwarder import dial
from shim.plugin.protocol.multiplexer import Multiplexer
from shim.plugin.protocol.mutual_tls import SERVER_NAME, contexts
from shim.plugin.protocol.socket_folder import SocketFolder
from shim.plugin.protocol.stdio import mirror
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from shim.plugin.protocol.handshake import PluginAddress
    from shim.plugin.protocol.mutual_tls import Contexts, Identity
    from shim.plugin.protocol.stdio import Sink
    from shim.plugin.runner import AttachedRunner

__all__ = ["Connection", "Sinks"]

_log = logging.getLogger(__name__)

_PING_S = 10.0
_SHUTDOWN_S = 2.0


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where the plugin's output goes; without one it is thrown away."""

    stdout: Sink | None = None
    stderr: Sink | None = None


class Connection:
    """Open until it is closed."""

    def __init__(
        self, channel: PluginChannel, broker: Broker, private: SocketFolder, mux: Multiplexer | None
    ) -> None:
        self.channel = channel
        self._mux = mux
        self.broker = broker
        self._private = private
        self._stdio: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, where: PluginAddress, runner: AttachedRunner, shared: SocketFolder, identity: Identity | None
    ) -> Connection:
        """Ready to be used; ``start`` sees whether the plugin answers.

        Raises:
            FailedPrecondition: the plugin has no certificate, or none that can be read, where one is asked for.
            Unavailable: it is multiplexed, and does not accept the connection.
            ShimError: there can be no sockets.
        """
        tls = _contexts(where, identity)
        private = SocketFolder.make("ocishim-plugin-")
        mux: Multiplexer | None = None
        try:
            if where.multiplexed:
                mux = await Multiplexer.connect(where.network, where.address)
            channel = await _channel(where, private, tls, mux)
        except BaseException:
            if mux is not None:
                await mux.close()
            private.remove()
            raise
        return cls(channel, Broker(runner, shared, private, tls, mux), private, mux)

    async def start(self, sinks: Sinks) -> None:
        """The plugin answers, its output is taken, and its broker works.

        Raises:
            ShimError: it does not answer, or refuses our certificate, or we its.
        """
        await self.ping()
        self.broker.start(self.channel.grpc)
        task = mirror(self.channel.grpc, sinks.stdout, sinks.stderr)
        self._stdio = asyncio.get_running_loop().create_task(task)

    async def ping(self) -> None:
        """The plugin answers, and says that it serves.

        Raises:
            ShimError: it does not, in ten seconds at most.
        """
        try:
            await check(self.channel.grpc, _PING_S)
        except grpc.aio.AioRpcError as error:
            why = f" ({self.channel.error})" if self.channel.error else ""
            raise error_of(error, f"no answer from the plugin{why}") from error

    async def end_plugin(self) -> bool:
        """Whether the plugin was told to end, and so can be expected to; its broker is closed before."""
        await self.broker.close()
        try:
            await shutdown(self.channel.grpc, _SHUTDOWN_S)
        except grpc.aio.AioRpcError as error:
            _log.debug("the plugin's answer to the call to end: %s", error.details())
            # One that ends before it has answered is Unavailable, which is as well.
            return error.code() is not grpc.StatusCode.UNIMPLEMENTED
        return True

    async def close(self) -> None:
        """Nothing is left of it; the plugin runs on."""
        try:
            await self.broker.close()
            if self._stdio is not None:
                self._stdio.cancel()
                await asyncio.gather(self._stdio, return_exceptions=True)
            await self.channel.close()
            if self._mux is not None:
                await self._mux.close()
        finally:
            await in_thread(self._private.remove, always=True)


def _contexts(where: PluginAddress, identity: Identity | None) -> Contexts | None:
    if identity is None:
        return None
    if not where.certificate:
        raise FailedPrecondition(
            "it gave no certificate, which automatic mutual TLS needs; it may not know of that"
        )
    return contexts(identity, where.certificate)


async def _channel(
    where: PluginAddress, private: SocketFolder, tls: Contexts | None, mux: Multiplexer | None
) -> PluginChannel:
    context = None if tls is None else tls.client
    if mux is not None:
        return await PluginChannel.through(lambda: mux.open(context, SERVER_NAME), private)
    if context is None:
        return PluginChannel.straight(where.network, where.address)
    return await PluginChannel.through(
        lambda: dial(where.network, where.address, context, SERVER_NAME), private
    )
