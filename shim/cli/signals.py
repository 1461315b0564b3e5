"""Signals that are meant for the container.

Until the container runs, such a signal ends what we do: ``interruptible`` marks the calls that may be cut short, in
between it waits. From ``take`` on, each is data: the handler does nothing, and the C side of ``set_wakeup_fd`` writes
its number into a pipe that the loop polls.

A signal that was ignored when we were started (nohup; ``&`` in a script) stays ignored.

Man pages: signal(7), credentials(7) for why a terminal's ctrl-c reaches only us.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from shim.linux.fd import OwnedFd, pipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["FORWARDED", "Interrupted", "Signals"]

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Interrupted(KeyboardInterrupt):
    """A signal came before there was a container to have it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Signals:
    """While it is entered, the forwarded signals and SIGWINCH do not end this process."""

    def __init__(self) -> None:
        self._interruptible = False
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._read: OwnedFd
        self._write: OwnedFd

    def __enter__(self) -> Self:
        self._read, self._write = pipe()
        os.set_blocking(self._read.fileno(), False)
        os.set_blocking(self._write.fileno(), False)
        self._wakeup_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in (*FORWARDED, signal.SIGWINCH):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._read.close()
        self._write.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._interruptible and number in FORWARDED:
            # Once: what is done about it shall not be cut short too.
            self._interruptible = False
            raise Interrupted(number)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """In here a forwarded signal, also one that came before, raises Interrupted."""
        self._interruptible = True
        try:
            for number in self.take():
                self._handle(number, None)
            yield
        finally:
            self._interruptible = False

    def fileno(self) -> int:
        """Readable when ``take`` has something."""
        return self._read.fileno()

    def take(self) -> list[int]:
        """The signals that came since the last time."""
        try:
            return list(os.read(self._read.fileno(), 512))
        except BlockingIOError:
            return []
