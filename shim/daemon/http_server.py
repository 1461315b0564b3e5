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
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from shim.daemon.door import Door
from shim.daemon.http_protocol import HttpProtocol, Refusal

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

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
            self._metrics.refused.labels(_API).inc()
            self._attach(sock, lambda: Refusal(HTTPStatus.FORBIDDEN, "permission denied"), None)
        else:
            self._attach(sock, self._protocol({"peer": peer}), None)

    def _accepted_tls(self, sock: socket.socket) -> None:
        self._attach(sock, self._protocol({}), self.access.tls)

    def _protocol(self, state: dict[str, Any]) -> Callable[[], asyncio.Protocol]:
        access, shared = self.access, self._server.server_state
        if len(shared.connections) + self._door.arriving >= access.max_connections:
            self._metrics.refused.labels(_API).inc()
            return lambda: Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        return lambda: HttpProtocol(self._config, shared, state, access.timeout_s)

    def _attach(
        self, sock: socket.socket, factory: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None
    ) -> None:
        self._door.let_in(sock, self._attached(sock, factory, tls), lambda: None)

    async def _attached(
        self, sock: socket.socket, factory: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None
    ) -> None:
        sock.setblocking(False)
        timeout_s = self.access.timeout_s if tls else None
        who = _name_of(sock)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                factory, sock, ssl=tls, ssl_handshake_timeout=timeout_s
            )
        except (OSError, ssl.CertificateError) as error:
            # A client that does not know our authority, or has no certificate for ours; or epoll's own limits.
            _log.info("lost a connection that was being made%s: %s", who, error)
            sock.close()

    def close(self) -> None:
        """Nothing is accepted any more; connections stay."""
        self._door.close()

    async def stop(self, timeout_s: float) -> None:
        """No connection is left; requests that have begun have ``timeout_s`` to be answered."""
        await self._door.clear()
        self._config.timeout_graceful_shutdown = timeout_s  # type: ignore[assignment]  # it is given to wait_for
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # they learn it in the next turn of the loop


def _name_of(sock: socket.socket) -> str:
    """Who is at the other end of a TCP connection, for the log: the client itself learns little of a handshake that fails."""
    try:
        name = sock.getpeername()
    except OSError:  # it has gone already
        return ""
    return f" from {name[0]}" if isinstance(name, tuple) else ""
