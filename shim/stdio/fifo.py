"""Opening a client's FIFOs and files so that nothing blocks, nothing breaks, and nothing is lost.

An output FIFO is opened for writing and, by a second descriptor, for reading. The reader of ours is never read: it keeps
EPIPE away while the client is gone, and what was written stays in the FIFO for whoever opens it next. For stdin it is the
other way round: a writer of ours keeps the end of file away until CloseIO.

Man page: fifo(7): opening for writing without a reader gives ENXIO with O_NONBLOCK, and blocks without.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, InvalidArgument, from_os_error
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["open_log_file", "open_output", "open_stdin", "wake_late_reader"]

# O_NONBLOCK for files, too: what was a file a moment ago may be a FIFO now, whose open(2) would hold up the shim.
_COMMON_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_FIRST_DELAY_S = 0.002
_MAX_DELAY_S = 0.05


async def open_output(path: str, name: str, timeout_s: float) -> tuple[OwnedFd, OwnedFd | None]:
    """An existing FIFO or file, open for writing, and for a FIFO our reader of it; the caller owns both.

    With ``timeout_s`` 0 a FIFO needs no reader: the output waits in it.

    Raises:
        FailedPrecondition: nobody opened the FIFO for reading within ``timeout_s``.
        ShimError: it does not exist or cannot be opened.
    """
    if not _is_fifo(path, name):
        return _open(path, os.O_WRONLY | os.O_APPEND, name), None
    if timeout_s > 0:
        writer = await _wait_for_reader(path, name, timeout_s)
        return writer, _beside(writer, lambda: _open(path, os.O_RDONLY, name))
    # O_RDWR never blocks and never fails for want of a reader; it serves only until both real ends are open.
    with _open(path, os.O_RDWR, name):
        reader = _open(path, os.O_RDONLY, name)
        return _beside(reader, lambda: _open(path, os.O_WRONLY, name)), reader


def open_stdin(path: str) -> tuple[OwnedFd, OwnedFd | None]:
    """A FIFO or a terminal, open for reading, and our writer of a FIFO that keeps its end away; the caller owns both.

    Raises:
        InvalidArgument: it is neither.
        ShimError: it cannot be opened.
    """
    fifo = _is_fifo(path, "stdin")
    reader = _open(path, os.O_RDONLY, "stdin")
    if fifo:
        return reader, _beside(reader, lambda: _open(path, os.O_WRONLY, "stdin"))
    if not os.isatty(reader.fileno()):
        reader.close()
        raise InvalidArgument(f"stdin {path} is neither a FIFO nor a terminal")
    return reader, None


def wake_late_reader(reader: OwnedFd) -> None:
    """Whoever came for the rest of an output FIFO after its end, and waits, goes on; ``reader`` is ours of that FIFO.

    Without a writer, open(2) for reading blocks, and poll(2) reports no end to who never saw one. A moment of a writer is
    enough for both, and what lies in the FIFO is theirs to read although we let go of it then.
    """
    with suppress(OSError):  # out of descriptors, or no /proc: they wait on
        os.close(os.open(f"/proc/self/fd/{reader.fileno()}", os.O_WRONLY | _COMMON_FLAGS))


def open_log_file(path: str) -> OwnedFd:
    """The file of a ``file://`` URI, made with its directory where they are missing, open for appending.

    Raises:
        InvalidArgument: there is something at ``path`` that is no file.
        ShimError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _COMMON_FLAGS
    try:
        with suppress(FileNotFoundError):
            _check_file(path, os.stat(path).st_mode)
        try:
            return OwnedFd(os.open(path, flags, 0o644))
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return OwnedFd(os.open(path, flags, 0o644))
    except OSError as error:
        raise from_os_error(error, f"log file {path} cannot be opened for writing") from error


def _check_file(path: str, mode: int) -> None:
    # A FIFO here would be written without our reader beside it: the first client that leaves would break it.
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        raise InvalidArgument(f"log file {path} is there and is no file (give a FIFO without file://)")


def _is_fifo(path: str, name: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise from_os_error(error, f"{name} {path} cannot be used") from error
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise InvalidArgument(f"{name} {path} is neither a FIFO nor a file")
    return stat.S_ISFIFO(mode)


def _open(path: str, flags: int, name: str) -> OwnedFd:
    try:
        return OwnedFd(os.open(path, flags | _COMMON_FLAGS))
    except OSError as error:
        raise from_os_error(error, f"{name} {path} cannot be opened") from error


def _beside(first: OwnedFd, open_second: Callable[[], OwnedFd]) -> OwnedFd:
    try:
        return open_second()
    except BaseException:
        first.close()
        raise


async def _wait_for_reader(path: str, name: str, timeout_s: float) -> OwnedFd:
    # There is no event for "a reader came" but an open(2) that blocks, and that could only be given up by opening the
    # other end ourselves. Clients open theirs before they call Create, so the first try nearly always succeeds.
    loop = asyncio.get_running_loop()
    deadline, delay = loop.time() + timeout_s, _FIRST_DELAY_S
    while True:
        try:
            return OwnedFd(os.open(path, os.O_WRONLY | _COMMON_FLAGS))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise from_os_error(error, f"{name} {path} cannot be opened") from error
        if loop.time() >= deadline:
            raise FailedPrecondition(
                f"{name} FIFO {path} has no reader after {timeout_s:g} s; open it for reading first"
            )
        await asyncio.sleep(delay)
        delay = min(delay * 2, _MAX_DELAY_S)
