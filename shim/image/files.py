"""Files of a directory that somebody else made: opened without waiting, read up to a limit, copied with their digest.

What is named may be a FIFO, on which an open would wait for ever, or a device; only regular files are taken.

Source: open(2), O_NONBLOCK.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument, ResourceExhausted
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader
    from pathlib import Path

    from shim.image.manifest import Descriptor

__all__ = ["as_regular", "open_regular", "read_document", "sync", "take"]

_CHUNK = 1 << 20


def open_regular(path: Path) -> BufferedReader:
    """The file, open for reading.

    Raises:
        InvalidArgument: it is no regular file.
        OSError: it cannot be opened.
    """
    with OwnedFd(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as fd:
        return as_regular(fd, str(path))


def as_regular(fd: OwnedFd, what: str) -> BufferedReader:
    """The file of ``fd``, which it takes.

    Raises:
        InvalidArgument: it is no regular file; ``what`` names it.
    """
    if not stat.S_ISREG(os.fstat(fd.fileno()).st_mode):
        raise InvalidArgument(f"{what} is no regular file")
    return open(fd.detach(), "rb")


def read_document(path: Path, limit: int) -> bytes:
    """All that is in a file.

    Raises:
        InvalidArgument: it is no regular file.
        ResourceExhausted: it is longer than ``limit``.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        body = file.read(limit + 1)
    if len(body) > limit:
        raise ResourceExhausted(f"{path} is longer than {limit} bytes")
    return body


def take(source: Path, target: Path, blob: Descriptor, tell: Callable[[int], None], *, move: bool) -> None:
    """``target`` is new, on disk, and has what ``blob`` describes; ``source`` is copied, or gone with ``move``.

    ``tell`` is called with the bytes of each step. When this fails ``target`` may be there, and is of no use.

    Raises:
        InvalidArgument: the source has another size or digest.
        OSError: it cannot be read or written.
    """
    digest, size = hashlib.sha256(), 0
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(source))
        copy = None if move else stack.enter_context(target.open("xb"))
        # One more than is promised: a file without end is seen for what it is.
        while chunk := file.read(min(_CHUNK, blob.size + 1 - size)):
            digest.update(chunk)
            size += len(chunk)
            if copy is not None:
                copy.write(chunk)
            tell(len(chunk))
    if size != blob.size:
        raise InvalidArgument(
            f"{blob.digest} has {'more' if size > blob.size else size} bytes, and not {blob.size}"
        )
    if f"sha256:{digest.hexdigest()}" != blob.digest:
        raise InvalidArgument(f"what is called {blob.digest} has the digest sha256:{digest.hexdigest()}")
    if move:
        source.rename(target)
    sync(target)


def sync(path: Path) -> None:
    """A file or a directory is on disk.

    Raises:
        OSError: it is not.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
