"""The gRPC server: the calls of ``types.API``, health and reflection, on a unix socket and, with TLS, on TCP.

Who may call. grpc tells nothing of the peer of a unix socket: the path is given by whoever looks at peers first, and lies where
nobody else can go. Over TCP every client must have a certificate of the authority that is given.

Order at the end: health says so, streams are ended (they would not end by themselves) and their clients told, no call is
taken any more, those that run have ``grace_s`` seconds, then shims are not heard any more, and what they have told is stored.

Source: grpc.aio; the gRPC health checking and server reflection protocols.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from shim.bootstrap.listener import listen
from shim.containers.checkpoints import Checkpoints
from shim.containers.containers import Containers
from shim.containers.events_socket import events_socket
from shim.containers.task_client import NAMESPACE
from shim.errors import Unavailable
from shim.grpc_api.api import Api
from shim.grpc_api.calls import Streams, unary
from shim.grpc_api.event_log import EventLog
from shim.grpc_api.events import Events
from shim.grpc_api.known import Known
from shim.grpc_api.messages import Description, describe
from shim.grpc_api.reconcile import Reconciler
from shim.grpc_api.shims import Shims
from shim.grpc_api.stats import StatsStreams
from shim.grpc_api.tls import TlsListener, credentials
from shim.process.thread import in_thread
from shim.proto import first_api_pb2 as wire
from shim.service import unsent
from shim.store.storage import open_storage
from shim.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.config import Config

__all__ = ["SERVICE", "ApiServer", "TlsListener"]

SERVICE: Final = "types.API"

# A request is small; State of a thousand containers is not.
_MAX_REQUEST: Final = 4 << 20
_MAX_ANSWER: Final = 64 << 20
_MAX_STREAMS: Final = 4096
_MAX_CALLS: Final = 16384
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_REQUEST),
    ("grpc.max_send_message_length", _MAX_ANSWER),
    ("grpc.max_concurrent_streams", _MAX_STREAMS),
    ("grpc.so_reuseport", 0),
    # A client that has vanished without a word holds its streams no longer than this.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
_STORED_S: Final = 5.0

_log = logging.getLogger(__name__)


class ApiServer:
    """Use ``start`` once, and ``stop`` at the end. Made inside the event loop."""

    def __init__(self, config: Config, open_files: int = -1) -> None:
        """Nothing is opened yet. ``open_files`` is the soft limit of descriptors of what is started; -1: ours.

        Raises:
            InvalidArgument: there is no such storage.
            Unimplemented: what it needs is not installed.
        """
        self._events_path = events_socket(config.state_root)
        containers = Containers(config.state_root)
        shims = self._shims = Shims(containers)
        known = Known()
        self._log = EventLog(open_storage(config.storage, Path(config.data_root)), known, _place(config))
        self._events = Events(self._log, known, self._describe, Checkpoints(config.data_root), NAMESPACE)
        self._api = Api(config, self._events.told, self._events.look, open_files)
        self._stats = StatsStreams(shims.connect)
        self._reconciler = Reconciler(containers, self._events, known, shims.connect, self._events_path)
        self._streams = Streams()
        self._events_server = Server(self._events.services())
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._reconciling: asyncio.Task[None] | None = None
        self._hears = False

    async def start(self, socket_path: str | Path, tls: Sequence[TlsListener] = ()) -> list[int]:
        """Calls are answered at ``socket_path``, which nobody else may reach, and at ``tls``; returns the ports of these.

        What shims tell is taken, and ends that were missed are told before this returns.

        Raises:
            AlreadyExists: another daemon takes the events of this state directory.
            InvalidArgument: a certificate cannot be used.
            ShimError: it cannot be started; nothing is left of it.
        """
        try:
            return await self._start(Path(socket_path), tls)
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self, socket_path: Path, tls: Sequence[TlsListener]) -> list[int]:
        await self._log.open()
        await self._events_server.serve(await in_thread(listen, self._events_path))
        self._hears = True
        await in_thread(unsent.prepare, unsent.directory_of(self._events_path))
        await self._reconciler.look()
        await self._api.open()
        self._reconciling = asyncio.create_task(self._reconciler.run())
        secured = [(listener.address, credentials(listener)) for listener in tls]
        server = self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
        server.add_generic_rpc_handlers((self._handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            _bind(server, f"unix:{socket_path}")
            ports = [_bind(server, address, secrets) for address, secrets in secured]
        finally:
            # Also where it cannot listen everywhere: one that never started is never closed.
            await server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return ports

    async def _describe(self, container_id: str) -> Description:
        return await describe(await self._shims.container(container_id))

    def _handlers(self) -> grpc.GenericRpcHandler:
        api = self._api
        calls = {
            "CreateContainer": unary(api.create_container, wire.CreateContainerRequest),
            "UpdateContainer": unary(api.update_container, wire.UpdateContainerRequest),
            "Signal": unary(api.signal, wire.SignalRequest),
            "AddProcess": unary(api.add_process, wire.AddProcessRequest),
            "CreateCheckpoint": unary(api.create_checkpoint, wire.CreateCheckpointRequest),
            "DeleteCheckpoint": unary(api.delete_checkpoint, wire.DeleteCheckpointRequest),
            "ListCheckpoint": unary(api.list_checkpoint, wire.ListCheckpointRequest),
            "State": unary(api.state, wire.StateRequest),
            "Events": self._streams.method(self._events.subscribe, wire.EventsRequest),
            "GetStats": self._streams.method(self._stats.get_stats, wire.StatsRequest),
        }
        return grpc.method_handlers_generic_handler(SERVICE, calls)

    async def stop(self, grace_s: float = 5.0) -> None:
        """No call runs, nothing listens, no task is left, and what was told is stored. Idempotent."""
        await self._health.enter_graceful_shutdown()
        await self._streams.end(grace_s)
        if self._server is not None:
            await self._server.stop(grace_s)
        if self._reconciling is not None:
            self._reconciling.cancel()
            with suppress(asyncio.CancelledError):
                await self._reconciling
        await self._reconciler.close()
        await self._api.close()
        await self._events_server.close()
        if self._hears:
            with suppress(FileNotFoundError):
                os.unlink(self._events_path)
        await self._log.close(_STORED_S)


def _place(config: Config) -> str:
    """Where events are stored: the containers of another state directory are others, and may have a daemon of their own."""
    return f"events/{hashlib.sha256(os.fsencode(config.state_root)).hexdigest()[:16]}"


def _bind(server: grpc.aio.Server, address: str, secrets: grpc.ServerCredentials | None = None) -> int:
    """The port."""
    try:
        if secrets is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, secrets)
    except RuntimeError as error:
        raise Unavailable(f"the gRPC API cannot listen at {address}: {error}") from error
