"""The HTTP server: uvicorn's, fed with connections that were accepted and looked at here.

Uvicorn would listen itself, but then nobody could see who connects, and certificates could not be renewed. So it gets no
socket, only connections; its ``Server`` keeps the time, and ends them.

Source: uvicorn's documentation of Server and Config.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from shim.daemon.door import Door
from shim.daemon.http_protocol import HttpProtocol, Refusal
from shim.daemon.places import Places

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Hashable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from shim.catalog.api.metrics import Metrics
    from shim.daemon.admission import Admission

__all__ = ["Access", "HttpServer"]

_API: Final = "http"
_KEEP_ALIVE_S: Final = 75

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """What is looked at when somebody connects. Replaced as a whole, and in force from the next connection on."""

    app: ASGIApp
    admission: Admission
    tls: ssl.SSLContext | None
    max_connections: int
    timeout_s: float


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    async def main_loop(self) -> None:
        """Until ``end``. Uvicorn's own wakes ten times a second, to know the date, which is the protocol's business here."""
        await self._ended.wait()

    def end(self) -> None:
        """It does not go on."""
        self.should_exit = True
        self._ended.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's."""
        yield


class HttpServer:
    """Serves ``access.app`` on sockets that it is given. Made inside the event loop."""

    def __init__(self, access: Access, metrics: Metrics) -> None:
        self.access = access
        self._metrics = metrics
        self._config = uvicorn.Config(
            self._dispatch,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            # X-Forwarded-For is not believed: it would choose the bucket of the rate limit, and what the audit log says.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._config.load()
        self._server = _Server(self._config)
        self._door = Door()
        self._places = Places()
        self._serving: asyncio.Task[None] | None = None
        metrics.connections.labels(_API).set_function(lambda: len(self._server.server_state.connections))

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.access.app(scope, receive, send)

    def start(self) -> None:
        """What is accepted from now on is served."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[]))

    def listen(self, sock: socket.socket, *, tls: bool) -> None:
        """Connections to ``sock``, whose ownership is taken, are accepted."""
        self._door.listen(sock, self._accepted_tls if tls else self._accepted_unix)

    def _accepted_unix(self, sock: socket.socket) -> None:
        peer = self.access.admission.admit(sock)
        if peer is None:
            self._refuse(sock, HTTPStatus.FORBIDDEN, "permission denied")
        elif self._places.is_free(self.access.max_connections, user=peer.uid):
            self._admit(sock, {"peer": peer}, None, user=peer.uid)
        else:
            self._refuse(sock, HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")

    def _accepted_tls(self, sock: socket.socket) -> None:
        address = _address_of(sock)
        if self._places.is_free(self.access.max_connections, address=address):
            self._admit(sock, {}, self.access.tls, address=address)
        else:
            # Without a word: it would take a handshake, and there may be any number of these.
            self._metrics.refused.labels(_API).inc()
            sock.close()

    def _admit(
        self, sock: socket.socket, state: dict[str, Any], tls: ssl.SSLContext | None, **who: Hashable
    ) -> None:
        leave = self._places.take(**who)
        make = partial(
            HttpProtocol, self._config, self._server.server_state, state, self.access.timeout_s, leave
        )
        self._door.let_in(sock, self._attached(sock, make, tls, leave), leave)

    def _refuse(self, sock: socket.socket, status: HTTPStatus, text: str) -> None:
        self._metrics.refused.labels(_API).inc()
        attached = self._attached(sock, lambda: Refusal(status, text), None, _nothing)
        self._door.let_in(sock, attached, _nothing)

    async def _attached(
        self,
        sock: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        leave: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        timeout_s = self.access.timeout_s if tls else None
        address = _address_of(sock)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                factory, sock, ssl=tls, ssl_handshake_timeout=timeout_s
            )
        except (OSError, ssl.CertificateError) as error:
            # A client that does not know our authority, or has no certificate for ours; or epoll's own limits.
            where = f" from {address}" if address else ""
            _log.info("lost a connection that was being made%s: %s", where, error)
            sock.close()
            leave()

    def close(self) -> None:
        """Nothing is accepted any more; connections stay."""
        self._door.close()

    async def stop(self, timeout_s: float) -> None:
        """No connection is left; requests that have begun have ``timeout_s`` to be answered."""
        await self._door.clear()
        self._config.timeout_graceful_shutdown = timeout_s  # type: ignore[assignment]  # it is given to wait_for
        self._server.end()
        if self._serving is not None:
            await self._serving
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # they learn it in the next turn of the loop


def _address_of(sock: socket.socket) -> str:
    """Of who is at the other end of a TCP connection; empty for others, and where that has gone already."""
    try:
        name = sock.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def _nothing() -> None:
    """Nobody waits for the place of one who was refused."""
