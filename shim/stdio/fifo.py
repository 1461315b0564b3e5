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
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, InvalidArgument, from_os_error
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["open_log_file", "open_output", "open_stdin"]

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


def open_stdin(path: str) -> tuple[OwnedFd, OwnedFd]:
    """A FIFO, open for reading, and our writer of it that keeps its end away; the caller owns both.

    Raises:
        InvalidArgument: it is no FIFO.
        ShimError: it cannot be opened.
    """
    if not _is_fifo(path, "stdin"):
        raise InvalidArgument(f"stdin {path} is not a FIFO")
    reader = _open(path, os.O_RDONLY, "stdin")
    return reader, _beside(reader, lambda: _open(path, os.O_WRONLY, "stdin"))


def open_log_file(path: str) -> OwnedFd:
    """The file of a ``file://`` URI, made with its directory where they are missing, open for appending.

    Raises:
        ShimError: it cannot be written.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)  # noqa: PTH103, PTH120 - bytes-safe and short
        return OwnedFd(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o644)
        )
    except OSError as error:
        raise from_os_error(error, f"log file {path} cannot be opened for writing") from error


def _is_fifo(path: str, name: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - one system call
    except OSError as error:
        raise from_os_error(error, f"{name} {path} cannot be used") from error
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise InvalidArgument(f"{name} {path} is neither a FIFO nor a file")
    return stat.S_ISFIFO(mode)


def _open(path: str, flags: int, name: str) -> OwnedFd:
    try:
        return OwnedFd(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))
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
            return OwnedFd(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise from_os_error(error, f"{name} {path} cannot be opened") from error
        if loop.time() >= deadline:
            raise FailedPrecondition(
                f"{name} FIFO {path} has no reader after {timeout_s:g} s; open it for reading first"
            )
        await asyncio.sleep(delay)
        delay = min(delay * 2, _MAX_DELAY_S)
