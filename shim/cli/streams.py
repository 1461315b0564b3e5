"""Bytes between the container's FIFOs and our own stdin, stdout and stderr, never waiting in read or write.

Each object says what it waits for (``interest``) and does what can be done now (``move``), one piece at a time, so that
the loop in ``foreground.py`` hears of signals and answers between any two pieces. A stream holds at most one piece:
while our side would block, the FIFO is left alone, and fills, and the container waits.

Our stdin, stdout and stderr are shared with whoever started us: O_NONBLOCK is a flag of the open file, so setting it
on them would break the shell behind us. Where possible the file is opened anew for ourselves (proc(5), /proc/self/fd).

Man pages: fifo(7), poll(2), pipe(7), pty(7).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from typing import TYPE_CHECKING, Protocol

from shim.errors import from_os_error
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from shim.cli.detach import DetachKeys

__all__ = ["FifoOutput", "Held", "Input", "Output", "Sink", "copy_out"]

_PIECE = 64 << 10
# What a pipe or a socket that poll(2) calls writable takes at once (PIPE_BUF).
_SAFE_PIECE = 4096


class Sink:
    """One of our own outputs. Owns a descriptor of it, but not the one it was made of."""

    def __init__(self, fd: int) -> None:
        self._name = {1: "stdout", 2: "stderr"}.get(fd, f"descriptor {fd}")
        mode = os.fstat(fd).st_mode
        self._socket: socket.socket | None = None
        self._piece = _PIECE
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISREG(mode):
            # Its own offset would overwrite what others append; and a file does not make us wait.
            self._fd = OwnedFd(os.dup(fd))
        else:
            self._fd = self._own_opening(fd)

    def _own_opening(self, fd: int) -> OwnedFd:
        try:
            return OwnedFd(
                os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            )
        except OSError:
            # A terminal of another user, or of another devpts.
            self._piece = _SAFE_PIECE
            return OwnedFd(os.dup(fd))

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno() if self._socket else self._fd.fileno()

    def write(self, data: memoryview) -> int:
        """How many bytes of ``data`` were taken, 0 when it would block.

        Raises:
            BrokenPipeError: nobody reads any more.
            ShimError: another failure, such as a full disk.
        """
        try:
            if self._socket:
                return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            return os.write(self._fd.fileno(), data[: self._piece])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise
        except OSError as error:
            raise from_os_error(error, f"{self._name} cannot be written") from error

    def close(self) -> None:
        """Closed; our own stdout is not."""
        if self._socket:
            self._socket.close()
        else:
            self._fd.close()


class Output(Protocol):
    """Something that the process writes."""

    ended: bool

    @property
    def holds(self) -> bool:
        """Whether it waits for our side, not for the process."""

    def interest(self) -> tuple[int, int]:
        """A descriptor and the poll events that ``move`` has something to do at."""

    def move(self) -> bool:
        """One piece was moved, or the end was found; False when there was nothing to do.

        Raises:
            BrokenPipeError: nobody reads any more.
            ShimError: our side failed in another way.
        """

    def writer_ended(self) -> None:
        """Nothing will be written any more: the end is where the end is now."""

    def discard(self) -> None:
        """What comes from now on goes nowhere."""

    def close(self) -> None:
        """Closed, with what it held."""


class Held:
    """The one piece that was read and not yet written, and the sink that is to have it."""

    def __init__(self, sink: Sink) -> None:
        self._sink: Sink | None = sink
        self._bytes = memoryview(b"")

    def __bool__(self) -> bool:
        return len(self._bytes) > 0

    def interest(self) -> tuple[int, int]:
        """When the sink takes more."""
        assert self._sink is not None  # noqa: S101 - without a sink nothing is held
        return self._sink.fileno(), select.POLLOUT

    def put(self, data: bytes) -> None:
        """Hold ``data``, and write what the sink takes."""
        self._bytes = memoryview(data)
        self.flush()

    def flush(self) -> None:
        """Write what the sink takes."""
        while self._bytes:
            written = self._sink.write(self._bytes) if self._sink else len(self._bytes)
            if not written:
                return
            self._bytes = self._bytes[written:]

    def close(self) -> None:
        """No sink any more: what is held and what comes goes nowhere."""
        if self._sink is not None:
            self._sink.close()
        self._sink = None
        self._bytes = memoryview(b"")


class FifoOutput:
    """An output FIFO on its way to a sink. Owns both.

    Make it only when the shim has the FIFO open for writing: before that, reading gives an end that is none.
    """

    def __init__(self, source: OwnedFd, sink: Sink) -> None:
        self.ended = False
        self._source = source
        self._held = Held(sink)

    @property
    def holds(self) -> bool:
        """See ``Output``."""
        return bool(self._held)

    def interest(self) -> tuple[int, int]:
        """When there is something to read, or, with a piece in hand, when it can be written."""
        return self._held.interest() if self._held else (self._source.fileno(), select.POLLIN)

    def move(self) -> bool:
        """See ``Output``."""
        if self._held:
            self._held.flush()
            return True
        try:
            data = os.read(self._source.fileno(), _PIECE)
        except BlockingIOError:
            return False
        if data:
            self._held.put(data)
        else:
            self.close()
        return True

    def writer_ended(self) -> None:
        """A FIFO says itself when it has ended."""

    def discard(self) -> None:
        """See ``Output``."""
        self._held.close()

    def close(self) -> None:
        """See ``Output``."""
        self.ended = True
        self._held.close()
        self._source.close()


class Input:
    """Our stdin on its way to the stdin FIFO. Owns the FIFO, not our stdin."""

    def __init__(self, source_fd: int, sink: OwnedFd, keys: DetachKeys | None) -> None:
        self.ended = False
        self.detached = False
        self._source = source_fd
        self._sink = sink
        self._keys = keys
        self._held = memoryview(b"")

    def interest(self) -> tuple[int, int]:
        """When there is something to read, or, with a piece in hand, when it can be written."""
        return (self._sink.fileno(), select.POLLOUT) if self._held else (self._source, select.POLLIN)

    def move(self) -> None:
        """One piece was moved, or ``ended`` or ``detached`` is set."""
        if not self._held:
            data = self._read()
            if not data:
                self.close()
                return
            if self._keys:
                data = self._keys.feed(data)
                self.detached = self._keys.seen
            self._held = memoryview(data)
        self._flush()

    def _read(self) -> bytes:
        try:
            return os.read(self._source, _PIECE)
        except OSError as error:
            # A terminal that is gone; not ours to complain about.
            if error.errno in {errno.EIO, errno.EBADF}:
                return b""
            raise

    def _flush(self) -> None:
        try:
            while self._held:
                self._held = self._held[os.write(self._sink.fileno(), self._held) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # The process closed its stdin, or is gone.
            self.close()

    def close(self) -> None:
        """The FIFO is closed, stdin is left alone."""
        self.ended = True
        self._held = memoryview(b"")
        self._sink.close()


def copy_out(output: Output) -> None:
    """All of an output that grows no more is written, waiting for our side where needed; it is closed.

    Raises:
        BrokenPipeError: nobody reads any more.
        ShimError: our side failed in another way.
    """
    output.writer_ended()
    try:
        while not output.ended:
            poll = select.poll()
            poll.register(*output.interest())
            poll.poll()
            output.move()
    finally:
        output.close()
