"""A channel to a plugin: straight to its socket, or by way of a forwarder that knows how to get there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from shim.plugin.protocol.calls import open_channel
from shim.plugin.protocol.forwarder import Forwarder

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc.aio

    from shim.plugin.protocol.forwarder import Dial
    from shim.plugin.protocol.socket_folder import SocketFolder

__all__ = ["PluginChannel"]


class PluginChannel:
    """``grpc`` is the channel; whoever closes this, or leaves an ``async with`` of it, closes that."""

    def __init__(self, grpc: grpc.aio.Channel, forwarder: Forwarder | None = None) -> None:
        self.grpc = grpc
        self.on_close: Callable[[PluginChannel], object] | None = None
        self._forwarder = forwarder

    @classmethod
    def straight(cls, network: str, address: str) -> PluginChannel:
        """To ``address``, plainly."""
        return cls(open_channel(network, address))

    @classmethod
    async def through(cls, dial: Dial, private: SocketFolder) -> PluginChannel:
        """Over what ``dial`` connects to; the socket for that is in ``private``.

        Raises:
            ShimError: there can be no socket.
        """
        path = private.new_path()
        forwarder = Forwarder(dial, "the plugin")
        await forwarder.start(private.listen(path), ours_only=True)
        return cls(open_channel("unix", path), forwarder)

    @property
    def error(self) -> str:
        """Why the last connection failed, as far as gRPC did not see that itself."""
        return "" if self._forwarder is None else self._forwarder.error

    async def close(self) -> None:
        """Calls that wait are cancelled, and nothing is left of the connection."""
        await self.grpc.close()
        if self._forwarder is not None:
            await self._forwarder.close()
        if self.on_close is not None:
            self.on_close(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
