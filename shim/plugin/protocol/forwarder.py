"""A socket whose connections are carried on to somewhere else: through TLS, or into a multiplexed connection.

gRPC can only be given addresses, of which it makes connections itself, and its TLS does not accept go-plugin's certificates
(see ``mutual_tls``). So it talks plainly to a socket that only this user can reach, and what is to be between that and the
plugin is done here. A byte costs one more copy on its way.

Source: unix(7), SO_PEERCRED.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from shim.errors import ShimError
from shim.linux.sockets import peer_credentials
from shim.process.tasks import first_of

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

__all__ = ["Dial", "Forwarder", "Stream", "dial"]

_log = logging.getLogger(__name__)

_CHUNK = 256 * 1024
_TLS_S = 10.0

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# Connects to where a connection is to go on.
Dial: TypeAlias = "Callable[[], Awaitable[Stream]]"


async def dial(
    network: str, address: str, tls: ssl.SSLContext | None = None, server_name: str = ""
) -> Stream:
    """A connection to ``address``, through TLS if there is a context.

    Raises:
        OSError: nobody accepts it, or TLS failed (ssl.SSLError).
    """
    how: dict[str, Any] = {"limit": _CHUNK}
    if tls is not None:
        how |= {"ssl": tls, "server_hostname": server_name, "ssl_handshake_timeout": _TLS_S}
    if network == "unix":
        return await asyncio.open_unix_connection(address, **how)
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), **how)


class Forwarder:
    """Carries the connections that come to one socket on, until it is closed."""

    def __init__(self, dial: Dial, what: str) -> None:
        """``what`` is where they go, for the log."""
        self._dial = dial
        self._what = what
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.error = ""

    async def start(
        self, listening: socket.socket, *, tls: ssl.SSLContext | None = None, ours_only: bool = False
    ) -> None:
        """Accepts at ``listening``, a unix socket, which is ours from now on.

        With ``tls`` whoever connects has to show a certificate; with ``ours_only`` it has to be this very process.

        Raises:
            OSError: that cannot be accepted from.
        """

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if ours_only and peer_credentials(writer.get_extra_info("socket")).pid != os.getpid():
                _log.warning("another process tried to get to %s", self._what)
                writer.close()
                return
            task = asyncio.get_running_loop().create_task(self._carry((reader, writer)))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        timeout = None if tls is None else _TLS_S
        self._server = await asyncio.start_unix_server(
            accept, sock=listening, ssl=tls, ssl_handshake_timeout=timeout, limit=_CHUNK
        )

    async def close(self) -> None:
        """Nobody is accepted any more, and every connection has ended."""
        if self._server is not None:
            self._server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _carry(self, near: Stream) -> None:
        far: Stream | None = None
        try:
            far = await self._dial()
            await _exchange(near, far)
        except (OSError, ShimError) as error:
            self.error = str(error)
            _log.debug("connection to %s: %s", self._what, error)
        finally:
            for _, writer in (near, *((far,) if far else ())):
                writer.close()


async def _exchange(near: Stream, far: Stream) -> None:
    """Copies both ways until one side ends: HTTP/2 needs no half of a connection. What was read has been written then."""
    await first_of(_copy(near[0], far[1]), _copy(far[0], near[1]))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # A peer that resets the connection has ended it, no more.
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
