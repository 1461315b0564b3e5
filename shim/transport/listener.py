"""Accepting connections, also when there are no descriptors left.

asyncio's own accept loop answers EMFILE with a log line per pending connection and a traceback in each. Here the
listening socket rests for RETRY_S, and the log has one line when the shortage begins and one when nobody waits in the
kernel's queue any more.

Source: accept(2), unix(7).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["RETRY_S", "Listener"]

RETRY_S: Final = 0.2

# Connections taken per turn of the event loop, so that a storm of them does not hold up the calls.
_BATCH: Final = 64

_log = logging.getLogger(__name__)


class Listener:
    """Accepts on one socket until it is closed. Owns the socket, not its path."""

    def __init__(self, sock: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        """Takes ownership of ``sock``; ``accepted`` takes ownership of each new connection."""
        sock.setblocking(False)
        self._sock = sock
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | None = None
        self._short = False
        self._loop.add_reader(sock, self._accept)

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                connection, _address = self._sock.accept()
            except BlockingIOError:
                self._caught_up()
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._rest(error)
                return
            self._accepted(connection)

    def _caught_up(self) -> None:
        if self._short:
            self._short = False
            _log.warning("accepting connections again")

    def _rest(self, error: OSError) -> None:
        if not self._short:
            self._short = True
            _log.error("cannot accept connections for now: %s", error.strerror)
        self._loop.remove_reader(self._sock)
        self._resting = self._loop.call_later(RETRY_S, self._resume)

    def _resume(self) -> None:
        self._resting = None
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """No further connection is accepted; the socket is closed. Idempotent."""
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
