"""Advisory locks between processes, which the kernel drops when their holder dies.

Source: flock(2).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_locked", "locked_directory"]


@contextmanager
def locked_directory(path: str) -> Iterator[None]:
    """Nobody else who asks for it is in ``path`` while the body runs; waits for whoever is.

    Raises:
        OSError: ``path`` is no directory that we may open.
    """
    with OwnedFd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        fcntl.flock(fd.fileno(), fcntl.LOCK_EX)
        yield


def is_locked(path: str) -> bool:
    """Whether somebody is in ``path`` by ``locked_directory``, in this process or another one.

    Raises:
        OSError: ``path`` is no directory that we may open.
    """
    with OwnedFd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        try:
            fcntl.flock(fd.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
