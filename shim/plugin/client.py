"""A plugin of its host's, from the start to the end.

Leaving ``async with`` ends the plugin: it is asked to, and killed two seconds later if it does not. Whatever goes wrong on the
way there, the plugin does not outlive it, nor do the sockets.

Source: hashicorp/go-plugin, client.go.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from shim.errors import DeadlineExceeded, FailedPrecondition, ShimError
from shim.plugin.protocol.connection import Connection, Sinks
from shim.plugin.protocol.handshake import environment
from shim.plugin.protocol.mutual_tls import new_identity
from shim.plugin.protocol.opening import CHUNK, read_handshake
from shim.plugin.protocol.plugin_log import PluginLog
from shim.plugin.protocol.socket_folder import SocketFolder, group_id
from shim.plugin.reattach_config import ReattachConfig
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import grpc.aio

    from shim.plugin.protocol.broker import Broker
    from shim.plugin.protocol.handshake import HandshakeConfig, PluginAddress
    from shim.plugin.protocol.mutual_tls import Identity
    from shim.plugin.runner import AttachedRunner, Runner, RunnerFactory

__all__ = ["ClientConfig", "PluginClient"]

_log = logging.getLogger(__name__)

# For a plugin that was asked to end.
_GRACE_S = 2.0
# For the rest of its output, which whoever it started may hold open.
_OUTPUT_S = 0.5


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How a host wants its plugin.

    ``auto_mtls`` makes both sides show certificates; a plugin has to know how. Sockets are made in a folder of their own in
    ``temp_dir`` (or where temporary files are), which ``group``, a name or number, can use. ``sinks`` take what the
    plugin writes to its standard output and error while it serves, ``logger`` what it logs. With ``broker_multiplex`` all
    of the broker's connections go over the first one, which takes a go-plugin since 1.6; nobody can attach to such a plugin.
    """

    handshake: HandshakeConfig
    auto_mtls: bool = False
    start_timeout_s: float = 60.0
    group: str = ""
    temp_dir: str = ""
    sinks: Sinks = field(default_factory=Sinks)
    logger: logging.Logger | None = None
    broker_multiplex: bool = False


class PluginClient:
    """One plugin. All methods are for the event loop in which it was started."""

    def __init__(self, config: ClientConfig, make_runner: RunnerFactory) -> None:
        self._config = config
        self._make_runner = make_runner
        self._identity: Identity | None = None
        self._shared: SocketFolder | None = None
        self._runner: AttachedRunner | None = None
        self._address: PluginAddress | None = None
        self._connection: Connection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def reattach(cls, config: ClientConfig, reattach: ReattachConfig, runner: AttachedRunner) -> Self:
        """Connected to the plugin of ``reattach``, which ``runner`` has found; from now on it ends with this.

        Raises:
            ShimError: the plugin does not answer; what is there of it stays.
        """

        def make_runner(*_: object) -> Runner:
            raise FailedPrecondition("a plugin that was attached to cannot be started again")

        self = cls(config, make_runner)
        gid = group_id(reattach.group) if reattach.group else None
        shared = SocketFolder(reattach.socket_dir, gid)
        connection = await _connected(reattach.address, runner, shared, reattach.identity, config.sinks)
        self._runner, self._shared, self._connection = runner, shared, connection
        self._address, self._identity = reattach.address, reattach.identity
        self._spawn(self._watch(runner))
        return self

    async def __aenter__(self) -> Self:
        if self._connection is None:
            await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def id(self) -> str:
        """The runner's; empty if there is none yet."""
        return "" if self._runner is None else self._runner.id

    @property
    def version(self) -> int:
        """The protocol version that was agreed on."""
        return self._started()[0].version

    @property
    def channel(self) -> grpc.aio.Channel:
        """For calls to the plugin."""
        return self._started()[1].channel.grpc

    @property
    def broker(self) -> Broker:
        """For further connections."""
        return self._started()[1].broker

    async def start(self) -> None:
        """The plugin serves, and is connected.

        Raises:
            DeadlineExceeded: it said nothing in time.
            Unavailable: it ended, or does not answer.
            FailedPrecondition: it says what we do not understand, is of another version, or has no certificate.
            ShimError: it cannot be started. The text tells what the runner knows, and the end of the plugin's log.
        """
        if self._runner is not None:
            raise FailedPrecondition("a plugin is started once")
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def ping(self) -> None:
        """The plugin answers.

        Raises:
            ShimError: it does not.
        """
        await self._started()[1].ping()

    async def wait(self) -> int:
        """The plugin's exit status, once it has ended."""
        if self._runner is None:
            raise FailedPrecondition("the plugin has not been started")
        return await self._runner.wait()

    def reattach_config(self) -> ReattachConfig:
        """What another process needs to attach to the plugin.

        Raises:
            FailedPrecondition: it has one connection, which is multiplexed.
        """
        address, _ = self._started()
        if address.multiplexed:
            raise FailedPrecondition(
                "a plugin whose broker is multiplexed takes one connection, which is ours"
            )
        assert self._shared is not None  # noqa: S101 - there is one with every connection
        return ReattachConfig(self.id, address, self._shared.path, self._config.group, self._identity)

    async def detach(self) -> ReattachConfig:
        """This ends without the plugin, which runs on; what another process needs to attach to it.

        The runner is that of the caller's again, who made it: what it holds of the plugin is not touched.
        """
        config = self.reattach_config()
        self._runner, self._shared = None, None
        await self.close()
        return config

    async def close(self) -> None:
        """The plugin has ended, and nothing of it is left; nothing happens the second time.

        Raises:
            ShimError: the runner cannot end it.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        # Who is cancelled does not wait any more; what has begun goes on.
        await asyncio.shield(self._closing)

    async def _start(self) -> None:
        config = self._config
        self._shared = SocketFolder.make("plugin-dir", config.temp_dir, config.group)
        self._identity = new_identity() if config.auto_mtls else None
        certificate = self._identity.certificate if self._identity is not None else ""
        variables = environment(
            config.handshake,
            self._shared.path,
            certificate=certificate,
            # The number: in a container a name may be another group's, or nobody's.
            group=str(group_id(config.group)) if config.group else "",
            multiplex=config.broker_multiplex,
        )
        runner = self._make_runner(variables, self._shared.path)
        name = os.path.basename(runner.name) or runner.name
        log = PluginLog(config.logger or logging.getLogger(f"plugin.{name}"))
        self._runner = runner
        try:
            async with asyncio.timeout(config.start_timeout_s):
                await runner.start()
                self._spawn(_log_stream(runner.stderr, log))
                await self._connect(runner, self._shared)
        except TimeoutError as error:
            late = DeadlineExceeded(f"it did not start in {config.start_timeout_s:g} s")
            raise await self._explained(late, runner, log) from error
        except ShimError as error:
            raise await self._explained(error, runner, log) from error

    async def _connect(self, runner: Runner, shared: SocketFolder) -> None:
        address = await read_handshake(runner, self._config.handshake.protocol_versions)
        self._spawn(_drain(runner.stdout))
        if self._config.broker_multiplex and not address.multiplexed:
            raise FailedPrecondition("it knows no multiplexed broker, as plugins do since go-plugin 1.6")
        self._address = replace(address, multiplexed=self._config.broker_multiplex)
        self._connection = await _connected(self._address, runner, shared, self._identity, self._config.sinks)
        self._spawn(self._watch(runner))

    async def _watch(self, runner: AttachedRunner) -> None:
        """Tells of the plugin's end, above all when nobody has asked for it."""
        status = await runner.wait()
        level = logging.WARNING if self._closing is None else logging.DEBUG
        _log.log(level, "plugin %s ended, exit status %d", runner.id, status)

    async def _explained(self, error: ShimError, runner: Runner, log: PluginLog) -> ShimError:
        """``error`` with all that is known of the plugin."""
        if self._tasks:
            await asyncio.wait(self._tasks[:1], timeout=_OUTPUT_S)
        log.end()
        parts = [f"plugin {runner.name}: {error}", " ".join(runner.diagnose().split())]
        if tail := log.tail():
            parts.append(f"the end of its log: {' / '.join(' '.join(line.split()) for line in tail)}")
        return type(error)("; ".join(part for part in parts if part))

    async def _close(self) -> None:
        try:
            if self._connection is not None:
                await self._end(self._connection)
        finally:
            try:
                if self._runner is not None:
                    await self._runner.kill()
            finally:
                await self._clear()

    async def _end(self, connection: Connection) -> None:
        try:
            if self._runner is not None and await connection.end_plugin():
                async with asyncio.timeout(_GRACE_S):
                    await self._runner.wait()
        except TimeoutError:
            _log.warning("plugin %s did not end in %g s and is killed", self.id, _GRACE_S)
        finally:
            await connection.close()

    async def _clear(self) -> None:
        if self._tasks:
            # Of a plugin that runs on nothing more is waited for.
            timeout = 0 if self._runner is None else _OUTPUT_S
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._shared is not None:
            await in_thread(self._shared.remove, always=True)

    def _started(self) -> tuple[PluginAddress, Connection]:
        if self._address is None or self._connection is None:
            raise FailedPrecondition("the plugin has not been started")
        if self._closing is not None:
            raise FailedPrecondition("the plugin has been let go")
        return self._address, self._connection

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(coroutine))


async def _connected(
    address: PluginAddress,
    runner: AttachedRunner,
    shared: SocketFolder,
    identity: Identity | None,
    sinks: Sinks,
) -> Connection:
    connection = await Connection.open(address, runner, shared, identity)
    try:
        await connection.start(sinks)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _log_stream(stream: asyncio.StreamReader, log: PluginLog) -> None:
    while data := await stream.read(CHUNK):
        log.feed(data)
    log.end()


async def _drain(stream: asyncio.StreamReader) -> None:
    """For ever: a plugin must not wait at a full pipe for having printed something."""
    while await stream.read(CHUNK):
        pass
