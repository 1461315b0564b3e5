"""The life of a shim process: serve until there is nothing left to do, then leave nothing behind.

It ends after Shutdown once it has no containers and no sandbox, or on SIGTERM and SIGINT when it has none, or on its own when
nobody is connected and it has none for ``idle_timeout``: a client may have died between starting it and Create. containerd
connects in its next life and wants nothing, so its shims end connected, too. What does not run and has no bundle any more
counts as none: containerd has cleared it away from disk, and will never ask for it.
A shim with containers takes no notice of SIGTERM: they would go on without anybody who knows how they end.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.bootstrap.start import EVENTS_VARIABLE
from shim.cgroup.events import OomWatcher
from shim.linux.limits import raise_open_files
from shim.linux.prctl import create_core_scheduling, set_name
from shim.process import Reaper
from shim.service import unsent
from shim.service.containers import Containers
from shim.service.publisher import Publisher
from shim.service.sandbox_service import SandboxService
from shim.service.sandboxes import Sandboxes
from shim.service.shim_service import ShimService
from shim.service.streaming import StreamingService
from shim.service.task_service import TaskService
from shim.task import Workshop
from shim.transport.server import Server

if TYPE_CHECKING:
    import socket

    from shim.cgroup.hierarchy import Hierarchy
    from shim.config import Config
    from shim.task.events import Event

__all__ = ["serve"]

_LAST_ANSWERS_S = 1.0
_LAST_EVENTS_S = 5.0
# Our own daemon finds what it was not told.
_LAST_EVENTS_OF_OURS_S = 0.5

_log = logging.getLogger(__name__)


async def serve(
    listener: socket.socket, path: str, namespace: str, config: Config, hierarchy: Hierarchy
) -> None:
    """Answer on ``listener`` (ownership taken), bound to ``path``, until the shim is not needed any more."""
    set_name("ocishim-shim")
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    if os.environ.get("SCHED_CORE"):
        _share_no_core()
    shim = _Shim(namespace, config, hierarchy)
    try:
        await shim.run(listener)
    finally:
        # First the name: whoever dials now is told at once that nobody is there.
        with suppress(OSError):
            os.unlink(path)
        await shim.close()


def _share_no_core() -> None:
    # We lead our process group and are alone in it; the containers that we start inherit it.
    try:
        create_core_scheduling()
    except OSError as error:
        _log.warning("SCHED_CORE: no core scheduling on this host: %s", error.strerror)


def _publisher(namespace: str) -> Publisher:
    if address := os.environ.get("TTRPC_ADDRESS", ""):
        return Publisher(address, namespace)
    address = os.environ.get(EVENTS_VARIABLE, "")
    return Publisher(address, namespace, leave_in=unsent.directory_of(address) if address else "")


class _Shim:
    """Everything that lives as long as the process."""

    def __init__(self, namespace: str, config: Config, hierarchy: Hierarchy) -> None:
        self._config = config
        self._done = asyncio.Event()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._clearing: asyncio.Task[None] | None = None
        self._reaper = Reaper(open_files=raise_open_files())
        self._of_containerd = bool(os.environ.get("TTRPC_ADDRESS"))
        self._publisher = _publisher(namespace)
        watcher = OomWatcher(asyncio.get_running_loop())
        self._shop = Workshop(namespace, config, self._reaper, hierarchy, watcher, publish=self._publish)
        self._containers = Containers(
            self._shop, on_empty=self._end_if_empty, on_change=self._containers_changed
        )
        self._sandboxes = Sandboxes(self._shop, self._containers)
        services = {
            **TaskService(self._containers, config).services(),
            **SandboxService(self._sandboxes).services(),
            **StreamingService(self._shop.copier.exchange).services(),
            **ShimService(
                self._containers, self._reaper, self._publisher, lambda: self._server.connections
            ).services(),
        }
        self._server = Server(services, on_idle=self._idle)
        _log.info("shim of namespace %s serves; %s", namespace, hierarchy.describe())

    async def run(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._reaper.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end, number)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        await self._server.serve(listener)
        self._idle()
        await self._done.wait()

    async def close(self) -> None:
        await self._server.close(linger_s=_LAST_ANSWERS_S)
        await self._publisher.close(_LAST_EVENTS_S if self._of_containerd else _LAST_EVENTS_OF_OURS_S)
        self._shop.close()
        self._reaper.stop()

    def _publish(self, event: Event) -> None:
        self._publisher.publish(event)
        if self._server.idle:
            self._idle()

    def _containers_changed(self) -> None:
        self._sandboxes.remember()

    @property
    def _empty(self) -> bool:
        return not len(self._containers) and not len(self._sandboxes)

    def _end_if_empty(self) -> None:
        if self._empty:
            self._done.set()

    def _asked_to_end(self, number: int) -> None:
        if not self._empty:
            _log.warning(
                "signal %d ignored: %d containers and %d sandboxes are left",
                number,
                len(self._containers),
                len(self._sandboxes),
            )
        else:
            self._done.set()

    def _idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(self._config.idle_timeout, self._end_if_useless)

    def _end_if_useless(self) -> None:
        if self._server.idle:
            self._clearing = asyncio.create_task(self._end_without_what_is_lost())
        elif self._of_containerd and self._empty:
            _log.info("containerd is connected and has no container for the shim: it ends")
            self._done.set()

    async def _end_without_what_is_lost(self) -> None:
        await self._sandboxes.drop_lost()
        await self._containers.drop_lost()
        if not self._server.idle:
            return
        if self._empty:
            _log.info("nobody is connected and there are no containers: the shim ends")
            self._done.set()
        elif not any(container.runs for container in self._containers):
            # Their bundles may go yet. The end of one that runs brings us here again.
            self._idle()
