"""All streams of one process, from Create or Exec to Delete.

    client FIFO  --relay-->  pipe or pty  -->  container        stdin
    container    -->  pipe or pty  --relay-->  client FIFO      stdout, stderr

Life: ``open`` (client's side is there, or the call fails and nothing has happened), ``runtime_fds`` go to the OCI runtime,
``started`` (copying begins), ``resize`` and ``close_stdin`` at any time, ``process_ended``, ``drain``, ``close``.
What a client asks for before the process runs is remembered and applied when it does.

Copying starts only when the runtime has returned: what a failing runtime prints on its stderr is no output of the container.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shim.linux.fd import OwnedFd, pipe
from shim.linux.pty import Winsize, set_winsize
from shim.stdio.console import ConsoleSocket
from shim.stdio.fifo import open_log_file, open_output, open_stdin
from shim.stdio.logger import LoggerProcess

if TYPE_CHECKING:
    from shim.process import Reaper
    from shim.stdio.copying import Copier, Stream
    from shim.stdio.uri import Streams

__all__ = ["IOSettings", "ProcessIO"]

_VEOF = b"\x04"
_FLUSH_S = 1.0
_CONSOLE_S = 10.0


@dataclass(frozen=True, slots=True)
class IOSettings:
    """What all processes of one container have in common."""

    container_id: str
    namespace: str
    console_parent: str
    """A directory, mode 0700, whose path is short enough for unix sockets in it."""
    uid: int = 0
    gid: int = 0
    fifo_timeout_s: float = 30.0
    logger_timeout_s: float = 10.0
    drain_timeout_s: float = 2.0


@dataclass(slots=True)
class _Route:
    """A copy that is to begin once the runtime has returned."""

    name: str
    source: OwnedFd | None = None
    sink: OwnedFd | None = None

    def close(self) -> None:
        for fd in (self.source, self.sink):
            if fd is not None:
                fd.close()

    def copy(self, copier: Copier, prefix: str, *, eof: bytes = b"", pty: bool = False) -> Stream:
        if self.source is None or self.sink is None:
            raise RuntimeError(f"{prefix} {self.name} was not opened")
        return copier.copy(f"{prefix} {self.name}", self.source, self.sink, eof=eof, pty=pty)


class ProcessIO:
    """The streams of one process. Owns every descriptor that it opens until ``close``."""

    def __init__(
        self, name: str, streams: Streams, settings: IOSettings, copier: Copier, reaper: Reaper
    ) -> None:
        self.streams = streams
        self._name = name
        self._settings = settings
        self._copier = copier
        self._reaper = reaper
        self._keepers: list[OwnedFd] = []
        self._given: list[OwnedFd] = []
        self._stdin: _Route | None = None
        self._routes: list[_Route] = []
        self._stdin_keeper: OwnedFd | None = None
        self._stdin_closed = False
        self._winsize: Winsize | None = None
        self._console: ConsoleSocket | None = None
        self._master: OwnedFd | None = None
        self._logger: LoggerProcess | None = None
        self._inputs: list[Stream] = []
        self._outputs: list[Stream] = []

    @property
    def runtime_fds(self) -> tuple[int, int, int]:
        """stdin, stdout and stderr for the OCI runtime; ours still, open until ``started``."""
        stdin, stdout, stderr = (fd.fileno() for fd in self._given)
        return stdin, stdout, stderr

    @property
    def console_socket(self) -> str | None:
        """The path for ``--console-socket``; None without a terminal."""
        return self._console.path if self._console else None

    @property
    def dropped(self) -> int:
        """Bytes of output that could not be delivered."""
        return sum(stream.dropped for stream in self._outputs)

    def stream_states(self) -> list[dict[str, object]]:
        """Every stream as plain data, for a shim that is asked how it is."""
        return [
            {"name": s.name, "ended": s.ended, "stalled_errno": s.stalled_errno, "dropped": s.dropped}
            for s in (*self._inputs, *self._outputs)
        ]

    async def open(self) -> None:
        """Everything that the OCI runtime needs is open.

        Raises:
            ShimError: a stream cannot be had; nothing stays open.
        """
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.close)
            if self.streams.terminal:
                await self._open_terminal()
            else:
                self._given.append(self._open_stdin())
                await self._open_outputs()
            undo.pop_all()

    async def started(self) -> None:
        """The runtime has returned: let go of the container's ends, and copy.

        Raises:
            ShimError: the terminal did not come.
        """
        if self._console is not None:
            self._master = await self._console.receive(_CONSOLE_S)
            self._console.close()
            self._console = None
            self._connect_terminal(self._master)
        for fd in self._given:
            fd.close()
        self._given.clear()
        terminal = self.streams.terminal
        if self._stdin is not None:
            route, self._stdin = self._stdin, None
            self._inputs.append(route.copy(self._copier, self._name, eof=_VEOF if terminal else b""))
        while self._routes:
            self._outputs.append(self._routes.pop(0).copy(self._copier, self._name, pty=terminal))

    def resize(self, size: Winsize) -> None:
        """Set the terminal's size; before there is one, remember it. Nothing happens without a terminal.

        Raises:
            OSError: the terminal is gone.
        """
        self._winsize = size
        if self._master is not None and not self._master.closed:
            set_winsize(self._master.fileno(), size)

    def close_stdin(self) -> None:
        """The process sees the end of its stdin once every client's writer is closed, and what they wrote was read."""
        self._stdin_closed = True
        if self._stdin_keeper is not None:
            self._stdin_keeper.close()

    def process_ended(self) -> None:
        """The process is gone: a terminal that nobody holds open has its end now."""
        if self._master is not None:
            for stream in self._outputs:
                stream.finish()

    async def drain(self) -> None:
        """All output that there was is delivered, or the time for it is over.

        Whoever inherited a stream from the process may hold it open for ever, and is waited for only ``drain_timeout_s``;
        then what lies in the pipe is taken, and a client that does not read it gets one more second.
        """
        if not await _all_ended(self._outputs, self._settings.drain_timeout_s):
            for stream in self._outputs:
                stream.finish()
            await _all_ended(self._outputs, _FLUSH_S)

    async def close(self) -> None:
        """Everything is closed, streams are ended, a logger has ended. Idempotent."""
        for stream in (*self._inputs, *self._outputs):
            stream.cancel()
        await _all_ended([*self._inputs, *self._outputs], _FLUSH_S)
        held = (*self._given, *self._keepers, *self._routes, self._stdin, self._stdin_keeper, self._master)
        for thing in (*held, self._console):
            if thing is not None:
                thing.close()
        self._routes.clear()
        self._stdin = self._console = None
        if self._logger is not None:
            logger, self._logger = self._logger, None
            await logger.close()

    def _open_stdin(self) -> OwnedFd:
        if not self.streams.stdin_path:
            return _null(os.O_RDONLY)
        route = self._open_stdin_fifo()
        container_end, route.sink = self._pipe()
        return container_end

    def _open_stdin_fifo(self) -> _Route:
        source, keeper = open_stdin(self.streams.stdin_path)
        # With the keeper opened and closed again the FIFO has had a writer: its end shows even if no client ever comes.
        if self._stdin_closed:
            keeper.close()
        self._stdin_keeper = keeper
        self._stdin = _Route("stdin", source)
        return self._stdin

    async def _open_outputs(self) -> None:
        if self.streams.kind == "binary":
            logger = await self._start_logger()
            self._given += [logger.stdout.dup(), logger.stderr.dup()]
            return
        await self._add_route("stdout")
        if self.streams.kind == "file" and self._routes[0].sink is not None:
            # One open file for both, so that neither overwrites the other.
            self._routes.append(_Route("stderr", sink=self._routes[0].sink.dup()))
        else:
            await self._add_route("stderr")
        for route in self._routes:
            if route.sink is None:
                self._given.append(_null(os.O_WRONLY))
            else:
                route.source, container_end = self._pipe()
                self._given.append(container_end)
        self._routes[:] = [route for route in self._routes if route.sink is not None]

    async def _add_route(self, name: Literal["stdout", "stderr"]) -> None:
        route = _Route(name)
        self._routes.append(route)
        path = self.streams.output_path(name)
        if path and self.streams.kind == "file":
            route.sink = open_log_file(path)
        elif path:
            route.sink, keeper = await open_output(path, name, self._settings.fifo_timeout_s)
            if keeper is not None:
                self._keepers.append(keeper)

    async def _open_terminal(self) -> None:
        self._console = ConsoleSocket(self._settings.console_parent)
        self._given += [_null(os.O_RDWR) for _ in range(3)]
        if self.streams.kind == "binary":
            logger = await self._start_logger()
            self._routes.append(_Route("terminal", sink=logger.stdout.dup()))
        else:
            await self._add_route("stdout")
            if self._routes[0].sink is None:
                # A terminal that nobody reads would block the container once its buffer is full.
                self._routes[0].sink = _null(os.O_WRONLY)
        if self.streams.stdin_path:
            self._open_stdin_fifo()

    def _connect_terminal(self, master: OwnedFd) -> None:
        if self._winsize is not None:
            set_winsize(master.fileno(), self._winsize)
        self._routes[0].source = master.dup()
        if self._stdin is not None:
            self._stdin.sink = master.dup()

    async def _start_logger(self) -> LoggerProcess:
        env = {"CONTAINER_ID": self._settings.container_id, "CONTAINER_NAMESPACE": self._settings.namespace}
        timeout_s = self._settings.logger_timeout_s
        self._logger = await LoggerProcess.start(self.streams.logger(), self._reaper, env, timeout_s)
        return self._logger

    def _pipe(self) -> tuple[OwnedFd, OwnedFd]:
        ends = pipe()
        if self._settings.uid or self._settings.gid:
            for end in ends:
                os.fchown(end.fileno(), self._settings.uid, self._settings.gid)
        return ends


async def _all_ended(streams: list[Stream], timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            for stream in streams:
                await stream.wait_ended()
    except TimeoutError:
        return False
    return True


def _null(flags: int) -> OwnedFd:
    return OwnedFd(os.open(os.devnull, flags | os.O_CLOEXEC))
