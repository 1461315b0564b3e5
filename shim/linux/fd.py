"""File descriptors with one owner each.

A descriptor is a number that the kernel hands out again the moment it is free: closing one twice closes a stranger's.
``OwnedFd`` forgets its number before it closes, so the second close does nothing. Closed is -1, never 0: 0 is a
descriptor like any other. "Takes ownership" in a docstring means that the callee closes it, on errors too.

Source: close(2), pipe(2).
"""

from __future__ import annotations

import os
import warnings
from typing import Self

__all__ = ["OwnedFd", "pipe"]


class OwnedFd:
    """The one owner of a descriptor; closes it on ``close``, at the end of a ``with`` block, or with a warning."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = -1
        if fd < 0:
            raise ValueError(f"{fd} is not a file descriptor")
        self._fd = fd

    def fileno(self) -> int:
        """The number, which stays ours.

        Raises:
            ValueError: it is closed or was given away.
        """
        if self._fd < 0:
            raise ValueError("the descriptor is closed")
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether it was closed or given away."""
        return self._fd < 0

    def detach(self) -> int:
        """The number, which is the caller's from now on.

        Raises:
            ValueError: it is closed or was given away.
        """
        fd = self.fileno()
        self._fd = -1
        return fd

    def dup(self) -> OwnedFd:
        """Another descriptor of the same open file, CLOEXEC; the caller owns it."""
        return OwnedFd(os.dup(self.fileno()))

    def close(self) -> None:
        """Closed; the second time nothing happens."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # Linux frees the number even when close fails (EINTR, EIO): trying again would hit a stranger.
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(
                f"descriptor {self._fd} was never closed", ResourceWarning, source=self, stacklevel=2
            )
            self.close()

    def __repr__(self) -> str:
        return f"OwnedFd({self._fd})"


def pipe() -> tuple[OwnedFd, OwnedFd]:
    """The read end and the write end of a new pipe, both CLOEXEC."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    return OwnedFd(read_fd), OwnedFd(write_fd)
