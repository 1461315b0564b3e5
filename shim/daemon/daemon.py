"""The daemon's life: everything is opened before anybody is let in, reloaded as a whole or not at all, and closed in order.

Order at the start: the HTTP socket first, which a second daemon would find taken before it has touched anything; the audit log;
the gRPC server and its gate; then connections are accepted, and systemd is told. At the end the sockets are closed first, then
those that have begun are answered, then the audit log has all its lines.

A killed daemon leaves sockets behind, which the next one replaces, and harms no container: none is its child.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from shim.catalog import Catalog, Tokens
from shim.catalog.api.app import build_app
from shim.catalog.api.audit import AuditLog
from shim.catalog.api.backend import Backend
from shim.catalog.api.metrics import Metrics
from shim.daemon.admission import Admission
from shim.daemon.config import private_socket
from shim.daemon.gate import Gate
from shim.daemon.http_server import Access, HttpServer
from shim.daemon.sockets import tcp_listener, unix_listener
from shim.daemon.tls import server_context
from shim.errors import FailedPrecondition, InvalidArgument, ShimError, from_os_error
from shim.linux.limits import raise_open_files
from shim.linux.prctl import set_name
from shim.process.thread import in_thread

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from shim.config import Config
    from shim.daemon.config import DaemonConfig
    from shim.daemon.notify import Notifier

    Load = Callable[[], tuple[Config, DaemonConfig]]

__all__ = ["Daemon"]

# What a reload cannot change.
_FIXED: Final = ("socket", "tcp", "grpc", "grpc_socket", "grpc_tcp")

_log = logging.getLogger(__name__)


class Daemon:
    """Use ``run`` once. ``load`` reads the configuration; ``sockets`` are systemd's, by name, and their ownership is taken."""

    def __init__(
        self, load: Load, notifier: Notifier, sockets: Mapping[str, Sequence[socket.socket]] | None = None
    ) -> None:
        self._load = load
        self._notifier = notifier
        self._sockets = {name: list(given) for name, given in (sockets or {}).items()}
        self._metrics = Metrics()
        self._paths: list[str] = []  # of sockets that are ours to remove
        self._where = ""
        self._stop = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._again = False
        self._config: Config
        self._settings: DaemonConfig
        self._audit: AuditLog
        self._backend: Backend
        self._http: HttpServer | None = None
        self._gate: Gate | None = None

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT; nothing is left then.

        Raises:
            ShimError: it cannot start; nothing is left then, either.
        """
        set_name("ocishim-daemon")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)
        async with AsyncExitStack() as stack:
            stack.callback(self._withdraw)
            self._where = await self._start(stack)
            self._notifier.ready(f"serves {self._where}")
            _log.info("serves %s", self._where)
            await self._stop.wait()
            self._withdraw()
            self._notifier.stopping()
            _log.info("stops")
            if self._reloading is not None:
                await self._reloading

    def _withdraw(self) -> None:
        """Nobody finds us any more. Before anything is closed: what has the name afterwards may be another daemon's."""
        for path in self._paths:
            with suppress(OSError):
                os.unlink(path)
        self._paths.clear()
        for server in (self._http, self._gate):
            if server is not None:
                server.close()
        # Those of systemd that nobody has taken.
        for sock in (sock for given in self._sockets.values() for sock in given):
            sock.close()

    async def _start(self, stack: AsyncExitStack) -> str:
        config, settings = self._config, self._settings = self._load()
        try:
            os.makedirs(config.state_root, mode=0o700, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, f"state root {config.state_root} cannot be made") from error
        tls = server_context(settings)
        doors = self._take_http(settings, stack)
        self._audit = AuditLog(settings.audit_log)
        stack.callback(self._audit.close)
        self._backend = Backend(
            Catalog(config.storage, config.data_root), Tokens(config.storage, config.data_root)
        )
        http = self._http = HttpServer(self._access(settings, tls), self._metrics)
        places = [where for _, where, _ in doors]
        if settings.grpc:
            places.append(await self._start_grpc(config, settings, stack))
        stack.push_async_callback(http.stop, settings.stop_timeout)
        http.start()
        for sock, _, secured in doors:
            http.listen(sock, tls=secured)
        return ", ".join(places)

    def _take_http(
        self, settings: DaemonConfig, stack: AsyncExitStack
    ) -> list[tuple[socket.socket, str, bool]]:
        """Each socket of the HTTP API, where it is, and whether it is for TLS."""
        found = []
        if given := self._sockets.pop("http", None):
            for sock in given:
                # Closed twice at the end, which does no harm.
                stack.callback(sock.close)
                found.append((sock, _name_of(sock), sock.family.name != "AF_UNIX"))
        else:
            sock = unix_listener(settings.socket, settings.group)
            stack.callback(sock.close)
            self._paths.append(settings.socket)
            found.append((sock, settings.socket, False))
        if settings.tcp:
            sock = tcp_listener(settings.tcp)
            stack.callback(sock.close)
            found.append((sock, _name_of(sock), True))
        if any(secured for *_, secured in found) and not settings.tls_certificate:
            raise InvalidArgument(
                "systemd gives a TCP socket; over TCP there is TLS only: set daemon.tls_certificate"
            )
        return found

    async def _start_grpc(self, config: Config, settings: DaemonConfig, stack: AsyncExitStack) -> str:
        """Where it listens."""
        from shim.grpc_api.server import ApiServer, TlsListener  # noqa: PLC0415 - large, and may be off

        given = self._sockets.pop("grpc", None)
        if not given:
            given = [unix_listener(settings.grpc_socket, settings.group)]
            self._paths.append(settings.grpc_socket)
        for sock in given:
            stack.callback(sock.close)
        places = [_name_of(sock) for sock in given]
        # One for each container, process and client.
        server = ApiServer(config, raise_open_files())
        path = private_socket(config.state_root)
        secured = []
        if settings.grpc_tcp:
            secured.append(
                TlsListener(
                    settings.grpc_tcp, settings.tls_certificate, settings.tls_key, settings.tls_client_ca
                )
            )
        # No umask: that is the process', and others run in it. The directory is for us alone.
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        gate = self._gate = Gate(path, Admission(settings.group), self._metrics, settings.max_connections)
        ports = await server.start(path, tls=secured)
        places += [f"{settings.grpc_tcp.rpartition(':')[0]}:{port}" for port in ports]
        stack.push_async_callback(gate.stop, 1.0)
        stack.push_async_callback(server.stop, settings.stop_timeout)
        for sock in given:
            gate.listen(sock)
        return ", ".join(places)

    def _access(self, settings: DaemonConfig, tls: ssl.SSLContext | None) -> Access:
        app = build_app(self._backend, self._audit, self._metrics, settings.settings)
        admission = Admission(settings.group)
        return Access(app, admission, tls, settings.max_connections, settings.request_timeout)

    # SIGHUP.

    def _asked_to_reload(self) -> None:
        if not self._where or self._stop.is_set():
            return  # it is being read for the first time, or nobody needs it any more
        # One after the other; of those that come meanwhile one is enough.
        if self._reloading is not None and not self._reloading.done():
            self._again = True
            return
        self._reloading = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            self._notifier.reloading()
            try:
                await self._reload_once()
            except ShimError as error:
                _log.error("the configuration stays what it was: %s", error)
            self._notifier.ready(f"serves {self._where}")

    async def _reload_once(self) -> None:
        """What can fail comes first: it is all of the new configuration that is in force afterwards, or nothing of it."""
        config, settings = await in_thread(self._load)
        tls = await in_thread(server_context, settings)
        http = self._http
        assert http is not None  # noqa: S101 - it runs
        if tls is None and http.access.tls is not None:
            raise FailedPrecondition("a certificate is in use, and the new configuration has none")
        access = self._access(settings, tls)
        await in_thread(self._audit.reopen, settings.audit_log)
        http.access = access
        if self._gate is not None:
            self._gate.admission, self._gate.max_connections = access.admission, access.max_connections
        for key in _changed(self._settings, settings, _FIXED) + _changed(
            self._config, config, ("state_root", "data_root", "storage")
        ):
            _log.warning("%s is another one now; that is in force after a restart", key)
        self._settings = settings
        _log.info("the configuration was read again")


def _changed(old: object, new: object, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _name_of(sock: socket.socket) -> str:
    name: Any = sock.getsockname()
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
