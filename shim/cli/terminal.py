"""The terminal a person sits at: raw while a container with a terminal has it, and as it was afterwards.

Raw: the container's pty does the line editing and makes signals of keys; ours would do both a second time.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from shim.linux import pty

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Terminal"]


class Terminal:
    """Our terminal, known by a descriptor that it does not own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def find(cls) -> Terminal | None:
        """The terminal that our stdin, stdout or stderr is on; None where none of them is."""
        return next((cls(fd) for fd in (0, 1, 2) if os.isatty(fd)), None)

    def size(self) -> pty.Winsize:
        """Rows and columns; 0 and 0 where the terminal does not know them or is gone."""
        try:
            return pty.get_winsize(self._fd)
        except OSError:
            return pty.Winsize(0, 0)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """The terminal ``fd`` is raw in here, and as it was afterwards; nothing happens if it is none."""
    if not os.isatty(fd):
        yield
        return
    saved = pty.make_raw(fd)
    try:
        yield
    finally:
        # The terminal may be gone: its window was closed.
        with suppress(OSError):
            pty.restore(fd, saved)
