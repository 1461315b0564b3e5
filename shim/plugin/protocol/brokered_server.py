"""A server that the plugin gets to by a number: what answers it when it calls back."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import grpc
import grpc.aio

from shim.errors import Unavailable
from shim.plugin.protocol.calls import OPTIONS, target
from shim.plugin.protocol.forwarder import Forwarder, dial

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from shim.plugin.protocol.socket_folder import SocketFolder

__all__ = ["BrokeredServer"]

# What calls have to end by themselves.
_GRACE_S = 1.0


class BrokeredServer:
    """Serves until it is closed, or an ``async with`` of it left."""

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers(handlers)
        self._paths: list[str] = []
        self._forwarder: Forwarder | None = None
        self.on_close: Callable[[BrokeredServer], object] | None = None

    async def start(self, folder: SocketFolder) -> str:
        """Serves at a new socket in ``folder``, whose path this is.

        Raises:
            ShimError: there can be none.
        """
        path = await self._serve_in(folder)
        folder.share(path)
        return path

    async def start_with_tls(self, folder: SocketFolder, private: SocketFolder, tls: ssl.SSLContext) -> str:
        """The same, through TLS; what is behind that listens in ``private``.

        Raises:
            ShimError: there can be no socket.
        """
        behind = await self._serve_in(private)
        path = folder.new_path()
        self._paths.append(path)
        self._forwarder = Forwarder(lambda: dial("unix", behind), "a server of the host's")
        await self._forwarder.start(folder.listen(path), tls=tls)
        return path

    async def close(self) -> None:
        """Nothing is served any more, and the sockets are gone."""
        if self._forwarder is not None:
            await self._forwarder.close()
        await self._server.stop(_GRACE_S)
        for path in self._paths:
            with suppress(
                OSError
            ):  # the plugin may have removed it, or put something else there, which goes with the folder
                os.unlink(path)
        if self.on_close is not None:
            self.on_close(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _serve_in(self, folder: SocketFolder) -> str:
        path = folder.new_path()
        self._paths.append(path)
        try:
            self._server.add_insecure_port(target("unix", path))
        except RuntimeError as error:  # gRPC tells the reason to its own log only
            raise Unavailable(f"socket {path} cannot be served") from error
        await self._server.start()
        return path
