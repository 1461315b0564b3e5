"""A plugin in a container that runs, whoever started it: waited for, ended, and its sockets' paths translated.

The container is cleared away as soon as it has ended, by every process that holds such an object; with ``debug`` only by
``kill``.

Source: plugincontainer (container_runner.go, compatibility with Docker's --rm); go-plugin runner.AttachedRunner.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.config import load
from shim.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from shim.plugin.container.bundle import SOCKET_DIR
from shim.plugin.container.home import Home
from shim.plugin.container.remains import clear, container_of
from shim.process.thread import in_thread
from shim.sandbox import fetch_sandbox

if TYPE_CHECKING:
    from shim.config import Config as Settings
    from shim.sandbox import Sandbox

__all__ = ["AttachedContainer"]

_STOP_S = 10.0

_log = logging.getLogger(__name__)


class AttachedContainer:
    """An ``AttachedRunner``; made by ``attach``. Needs an event loop that runs for as long as the plugin is of interest."""

    def __init__(self, plugin_id: str, socket_dir: str, settings: Settings) -> None:
        self._settings = settings
        self._socket_dir = socket_dir.rstrip("/")
        self._home = Home(settings.data_root, plugin_id)
        self._container = container_of(plugin_id)
        self._debug = False
        self._sandbox: Sandbox | None = None
        self._ending: asyncio.Task[int] | None = None

    @classmethod
    async def attach(
        cls, plugin_id: str, socket_dir: str, settings: Settings | None = None
    ) -> AttachedContainer:
        """The plugin of that id, whose sockets are in the folder ``socket_dir`` of this host.

        Raises:
            NotFound: there is none, or it has ended.
        """
        attached = cls(plugin_id, socket_dir, settings or load())
        where = {"state_root": attached._settings.state_root, "storage": attached._settings.storage}
        try:
            sandbox = await fetch_sandbox(plugin_id, **where)
            try:
                await sandbox.status_container(attached._container)
                record = await in_thread(attached._home.load)
            except BaseException:
                sandbox.release()
                raise
        except (NotFound, Unavailable) as error:
            raise NotFound(f"container with ID {plugin_id} not found: {error}") from error
        attached._debug = record.debug
        attached._watch(sandbox)
        return attached

    @property
    def id(self) -> str:
        """That of its sandbox."""
        return self._home.id

    async def wait(self) -> int:
        """The exit status, once it has ended and, without ``debug``, nothing is left of it.

        Raises:
            FailedPrecondition: it has not been started.
            ShimError: its end cannot be told, because its shim is gone; or something of it stays.
        """
        if self._ending is None:
            raise FailedPrecondition(f"plugin container {self.id} has not been started")
        return await asyncio.shield(self._ending)

    async def kill(self) -> None:
        """It has ended, by SIGTERM or after 10 seconds by SIGKILL, and nothing is left of it. Right when it is done again.

        Raises:
            ShimError: something stays; it can be tried again.
        """
        if self._sandbox is None or self._ending is None:
            return
        if not self._ending.done():
            # What is already on its way out needs no signal, and may be gone before it comes.
            with suppress(NotFound, Unavailable):
                await self._sandbox.stop_container(self._container, grace_s=_STOP_S)
        await asyncio.wait([self._ending])
        await clear(self._settings, self._home)

    def release(self) -> None:
        """This object is of no more use; the plugin goes on, and whoever knows its id can attach to it."""
        if self._ending is not None and self._sandbox is not None:
            self._ending.cancel()
            # A task that has not begun yet releases nothing.
            self._sandbox.release()

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """See ``AttachedRunner``."""
        return network, self._translated(address, SOCKET_DIR, self._socket_dir)

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """See ``AttachedRunner``."""
        return network, self._translated(address, self._socket_dir, SOCKET_DIR)

    def _translated(self, address: str, here: str, there: str) -> str:
        directory, name = posixpath.split(address)
        if directory != here or name in {"", ".", ".."}:
            raise InvalidArgument(
                f"address {address!r} is not in {here}, which host and plugin share;"
                " a plugin that does not listen there may need a newer go-plugin"
            )
        return f"{there}/{name}"

    def _watch(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._ending = asyncio.create_task(self._end(sandbox), name=f"end of plugin {self.id}")
        self._ending.add_done_callback(self._ended)

    async def _end(self, sandbox: Sandbox) -> int:
        try:
            return await sandbox.wait_process(self._container, self._container)
        except (NotFound, Unavailable) as error:
            raise Unavailable(f"nobody knows how plugin container {self.id} ended: {error}") from error
        finally:
            sandbox.release()
            if not self._debug and not _cancelled():
                await clear(self._settings, self._home)

    def _ended(self, ending: asyncio.Task[int]) -> None:
        # Looked at: nobody may ever wait.
        if not ending.cancelled() and (error := ending.exception()) is not None:
            _log.warning("plugin container %s: %s", self.id, error)


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
