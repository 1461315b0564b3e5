"""All streams of one process, from Create or Exec to Delete.

    client FIFO  --relay-->  pipe or pty  -->  container        stdin
    container    -->  pipe or pty  --relay-->  client FIFO      stdout, stderr

Life: ``open`` (client's side is there, or the call fails and nothing has happened), ``runtime_fds`` go to the OCI runtime,
``started`` (copying begins), ``resize`` and ``close_stdin`` at any time, ``process_ended``, ``delivered``, ``drain``, ``close``.
What a client asks for before the process runs is remembered and applied when it does.

Copying starts only when the runtime has returned: what a failing runtime prints on its stderr is no output of the container.

Every descriptor is in ``_owned`` from the moment it is open; the relay takes some out of their owners, ``close`` closes the
rest. So an error or a cancellation, wherever it comes, needs no other clearing away than ``close``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, InvalidArgument, from_os_error
from shim.linux.fd import OwnedFd, pipe
from shim.linux.pty import Winsize, set_winsize
from shim.stdio.console import ConsoleSocket
from shim.stdio.fifo import open_log_file, open_output, open_stdin, wake_late_reader
from shim.stdio.logger import LoggerProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.process import Reaper
    from shim.stdio.copying import Copier, Stream
    from shim.stdio.exchange import Channel
    from shim.stdio.uri import Streams

__all__ = ["IOSettings", "ProcessIO"]

_log = logging.getLogger(__name__)

# End of file on a terminal is a character, and only at the beginning of a line: elsewhere the first one just delivers what
# was typed so far, and the second one is the end. At the beginning of a line the second one is never read.
_VEOF = b"\x04\x04"
_USHRT_MAX = 0xFFFF
_FLUSH_S = 1.0
_CONSOLE_S = 10.0
_AT_ONCE_S = 0.001
_DELIVERED_S = 0.1
_LOOKS = 25


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


@dataclass(frozen=True, slots=True)
class _Route:
    """A copy that is to begin once the runtime has returned."""

    name: str
    source: OwnedFd
    sink: OwnedFd
    to_process: bool = False
    eof: bytes = b""
    pty: bool = False


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
        self._owned: list[OwnedFd] = []
        self._given: list[OwnedFd] = []
        self._routes: list[_Route] = []
        self._output_keepers: list[OwnedFd] = []
        self._stdin_keeper: OwnedFd | None = None
        self._stdin_channel: Channel | None = None
        self._channels: list[Channel] = []
        self._stdin_closed = False
        self._terminal_in: OwnedFd | None = None
        self._terminal_out: OwnedFd | None = None
        self._winsize: Winsize | None = None
        self._console: ConsoleSocket | None = None
        self._master: OwnedFd | None = None
        self._logger: LoggerProcess | None = None
        self._inputs: list[Stream] = []
        self._outputs: list[Stream] = []
        self._process_ended = False
        self._closed = False

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
            {
                "name": s.name,
                "ended": s.ended,
                "stalled_errno": s.stalled_errno,
                "hangs_s": round(s.hangs_s, 3),
                "dropped": s.dropped,
            }
            for s in (*self._inputs, *self._outputs)
        ]

    async def open(self) -> None:
        """Everything that the OCI runtime needs is open.

        Raises:
            FailedPrecondition: an output FIFO has no reader, or ``close`` was called meanwhile.
            ShimError: a stream cannot be had; nothing stays open.
        """
        self._check_open()
        try:
            await (self._open_terminal() if self.streams.terminal else self._open_pipes())
            self._check_open()
        except BaseException as error:
            await self.close()
            if isinstance(error, OSError):
                raise from_os_error(error, f"the streams of {self._name} cannot be opened") from error
            raise

    async def started(self) -> None:
        """The runtime has returned: let go of the container's ends, and copy. After an error only ``close`` is left.

        Raises:
            ShimError: the terminal did not come, or a stream cannot be copied.
        """
        self._check_open()
        try:
            if self._console is not None:
                await self._receive_terminal()
            for fd in self._given:
                fd.close()
            while self._routes:
                self._copy(self._routes.pop(0))
        except OSError as error:
            raise from_os_error(error, f"the streams of {self._name} cannot be copied") from error
        if self._process_ended:
            self.process_ended()

    def resize(self, size: Winsize) -> None:
        """Set the terminal's size; before there is one, remember it. Nothing happens without a terminal.

        Raises:
            InvalidArgument: a number does not fit.
            OSError: the terminal is gone.
        """
        if not all(0 <= number <= _USHRT_MAX for number in size):
            raise InvalidArgument(f"a terminal cannot have {size.cols} columns and {size.rows} rows")
        self._winsize = size
        if self._master is not None and not self._master.closed:
            set_winsize(self._master.fileno(), size)

    def close_stdin(self) -> None:
        """The process sees the end of its stdin once every client's writer is closed, and what they wrote was read."""
        self._stdin_closed = True
        if self._stdin_keeper is not None:
            self._stdin_keeper.close()
        if self._stdin_channel is not None:
            self._stdin_channel.release()

    def process_ended(self) -> None:
        """The process is gone: a terminal has its end now, after what was written to it so far.

        Its hang-up alone is no end, since a container may close all of its terminal and open it again.
        """
        self._process_ended = True
        if self.streams.terminal:
            for stream in self._outputs:
                stream.finish()

    async def delivered(self) -> None:
        """What the process has said is with clients that read; returns soon whether they do or not.

        Go's clients close their FIFOs as soon as they hear of the end, and what lies there then is lost.
        """
        await _all_ended(self._outputs, _DELIVERED_S)
        # Looks are counted, not time: where the clients wait long for a CPU, so do we.
        for _ in range(_LOOKS):
            if not any(map(_holds_output, self._output_keepers)):
                break
            await asyncio.sleep(_AT_ONCE_S)

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
        """Everything is closed, streams are ended, a logger has ended. Idempotent, and right at any time."""
        self._closed = True
        streams = [*self._inputs, *self._outputs]
        for stream in streams:
            stream.cancel()
        try:
            if not await _all_ended(streams, _FLUSH_S):
                hanging = [stream.name for stream in streams if not stream.ended]
                _log.warning(
                    "a disk hangs: %s cannot be ended yet, and what is not written is lost",
                    ", ".join(hanging),
                )
        finally:
            self._close_all()
            if self._logger is not None:
                logger, self._logger = self._logger, None
                await logger.close(eof_to_term_s=self._settings.drain_timeout_s)

    async def _open_pipes(self) -> None:
        self._given.append(self._open_stdin_pipe())
        if self.streams.kind == "binary":
            logger = await self._start_logger()
            self._given += [self._own(logger.stdout.dup()), self._own(logger.stderr.dup())]
            return
        stdout, stderr = self.streams.output_path("stdout"), self.streams.output_path("stderr")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.fifo_timeout_s
        if stdout == stderr:
            # One pipe for both: only so do they arrive in the order in which they were written.
            both = await self._open_output("stdout and stderr", stdout, self._settings.fifo_timeout_s)
            self._given += [both, both]
            return
        self._given.append(await self._open_output("stdout", stdout, self._settings.fifo_timeout_s))
        left_s = max(deadline - loop.time(), _AT_ONCE_S) if self._settings.fifo_timeout_s else 0
        self._given.append(await self._open_output("stderr", stderr, left_s))

    def _open_stdin_pipe(self) -> OwnedFd:
        if not self._wants_stdin:
            return self._null(os.O_RDONLY)
        source = self._open_stdin()
        container_end, sink = self._pipe()
        self._routes.append(_Route("stdin", source, sink, to_process=True))
        return container_end

    @property
    def _wants_stdin(self) -> bool:
        # Nobody can ever write into what is empty. Files are not taken: runtimes give them to the container's user.
        return self.streams.stdin_path not in {"", os.devnull} or bool(self.streams.stdin_stream)

    def _open_stdin(self) -> OwnedFd:
        if stream_id := self.streams.stdin_stream:
            source, self._stdin_channel = self._offer(stream_id, to_process=True)
            if self._stdin_closed:
                self._stdin_channel.release()
            return source
        source, keeper = open_stdin(self.streams.stdin_path)
        if keeper is not None:
            self._stdin_keeper = self._own(keeper)
            # With the keeper opened and closed again the FIFO has had a writer: its end shows even if no client ever comes.
            if self._stdin_closed:
                keeper.close()
        return self._own(source)

    async def _open_output(self, name: str, path: str, timeout_s: float) -> OwnedFd:
        """The container's end of an output, whose copy is noted."""
        if not path:
            return self._null(os.O_WRONLY)
        sink = await self._open_sink(name, path, timeout_s)
        source, container_end = self._pipe()
        self._routes.append(_Route(name, source, sink))
        return container_end

    async def _open_sink(self, name: str, path: str, timeout_s: float) -> OwnedFd:
        if self.streams.kind == "file":
            return self._own(open_log_file(path))
        if self.streams.kind == "stream":
            return self._offer(path)[0]
        sink, keeper = await open_output(path, name, timeout_s)
        if keeper is not None:
            self._output_keepers.append(self._own(keeper))
        return self._own(sink)

    async def _open_terminal(self) -> None:
        self._console = ConsoleSocket(self._settings.console_parent)
        self._given += [self._null(os.O_RDWR)] * 3
        path = self.streams.output_path("stdout")
        if self.streams.kind == "binary":
            logger = await self._start_logger()
            self._terminal_out = self._own(logger.stdout.dup())
        elif path:
            self._terminal_out = await self._open_sink("stdout", path, self._settings.fifo_timeout_s)
        else:
            # A terminal that nobody reads would block the container once its buffer is full.
            self._terminal_out = self._null(os.O_WRONLY)
        if self._wants_stdin:
            self._terminal_in = self._open_stdin()

    async def _receive_terminal(self) -> None:
        # Ours alone from here on: a ``close`` meanwhile must not pull the socket away from under the wait.
        console, self._console = self._console, None
        if console is None or self._terminal_out is None:
            raise RuntimeError(f"the terminal of {self._name} was not opened")
        with closing(console):
            master = self._own(await console.receive(_CONSOLE_S))
        if self._closed:
            master.close()
        self._check_open()
        self._master = master
        if self._winsize is not None:
            set_winsize(master.fileno(), self._winsize)
        self._routes.append(_Route("terminal", self._own(master.dup()), self._terminal_out, pty=True))
        if self._terminal_in is not None:
            sink = self._own(master.dup())
            self._routes.append(_Route("stdin", self._terminal_in, sink, to_process=True, eof=_VEOF))

    async def _start_logger(self) -> LoggerProcess:
        # An exec's logger is told the exec's id, as containerd does it.
        process_id = self._name.removeprefix(f"{self._settings.container_id}/")
        env = {"CONTAINER_ID": process_id, "CONTAINER_NAMESPACE": self._settings.namespace}
        timeout_s = self._settings.logger_timeout_s
        self._logger = await LoggerProcess.start(self.streams.logger(), self._reaper, env, timeout_s)
        return self._logger

    def _copy(self, route: _Route) -> None:
        stream = self._copier.copy(
            f"{self._name} {route.name}",
            route.source,
            route.sink,
            to_process=route.to_process,
            eof=route.eof,
            pty=route.pty,
        )
        (self._inputs if route.to_process else self._outputs).append(stream)

    def _own(self, fd: OwnedFd) -> OwnedFd:
        self._owned.append(fd)
        return fd

    def _offer(self, stream_id: str, *, to_process: bool = False) -> tuple[OwnedFd, Channel]:
        fd, channel = self._copier.exchange.offer(stream_id, to_process=to_process)
        self._channels.append(channel)
        return self._own(fd), channel

    def _null(self, flags: int) -> OwnedFd:
        return self._own(OwnedFd(os.open(os.devnull, flags | os.O_CLOEXEC)))

    def _pipe(self) -> tuple[OwnedFd, OwnedFd]:
        source, sink = pipe()
        self._owned += (source, sink)
        if self._settings.uid or self._settings.gid:
            os.fchown(source.fileno(), self._settings.uid, self._settings.gid)
        return source, sink

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition(f"the streams of {self._name} are closed")

    def _close_all(self) -> None:
        for keeper in self._output_keepers:
            wake_late_reader(keeper)
        self._output_keepers.clear()
        for fd in self._owned:
            fd.close()
        self._owned.clear()
        while self._channels:
            self._copier.exchange.withdraw(self._channels.pop())
        self._routes.clear()
        if self._console is not None:
            self._console.close()
            self._console = None


def _holds_output(keeper: OwnedFd) -> bool:
    # POLLHUP, which comes with the end of the last writer, is no output.
    look = select.poll()
    look.register(keeper.fileno(), select.POLLIN)
    return any(events & select.POLLIN for _, events in look.poll(0))


async def _all_ended(streams: Sequence[Stream], timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            for stream in streams:
                await stream.wait_ended()
    except TimeoutError:
        return False
    return True
