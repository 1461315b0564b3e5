"""The pty of a container, as the OCI runtime hands it over.

The runtime opens the pty inside the container's own devpts and sends the master over a unix socket, ``--console-socket``:
one connection, one message, one descriptor. The socket lies in a directory that only we can enter, so whoever connects
is the runtime, and what it sends is its last word: nothing else is waited for after a message that makes no sense.

Source: runc docs/terminals.md; unix(7), SCM_RIGHTS.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from shim.errors import DeadlineExceeded, Unknown
from shim.linux.pty import get_winsize
from shim.linux.sockets import receive_fd
from shim.stdio.readiness import readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.linux.fd import OwnedFd

__all__ = ["ConsoleSocket"]


class ConsoleSocket:
    """Listens in a new directory of ``parent`` until the one pty has come. Owns socket and directory until ``close``.

    Raises:
        OSError: they cannot be made; nothing stays.
    """

    def __init__(self, parent: str) -> None:
        with ExitStack() as undo:
            directory = tempfile.mkdtemp(prefix="pty", dir=parent)
            undo.callback(_remove, os.rmdir, directory)
            self.path = os.path.join(directory, "s")
            undo.callback(_remove, os.unlink, self.path)
            self._socket = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            self._socket.setblocking(False)
            self._socket.bind(self.path)
            self._socket.listen(1)
            self._held = undo.pop_all()

    async def receive(self, timeout_s: float) -> OwnedFd:
        """The pty's master; the caller owns it.

        Raises:
            DeadlineExceeded: nothing came in time.
            Unknown: what came was not one descriptor of a terminal.
        """
        try:
            async with asyncio.timeout(timeout_s):
                master = await self._accept_fd()
        except TimeoutError:
            raise DeadlineExceeded(f"the OCI runtime sent no terminal within {timeout_s:g} s") from None
        except OSError as error:
            raise Unknown(f"the OCI runtime sent no valid terminal: {error}") from error
        try:
            get_winsize(master.fileno())
        except OSError as error:
            master.close()
            raise Unknown("the OCI runtime sent a descriptor that is no terminal") from error
        return master

    def close(self) -> None:
        """Socket and directory are gone. Idempotent."""
        self._held.close()

    async def _accept_fd(self) -> OwnedFd:
        # Not loop.sock_accept: cancelled at the wrong moment it loses the connection that it has accepted.
        await readable(self._socket.fileno())
        connection, _ = self._socket.accept()
        with connection:
            connection.setblocking(False)
            await readable(connection.fileno())
            _, master = receive_fd(connection)
        return master


def _remove(how: Callable[[str], None], path: str) -> None:
    # Not shutil.rmtree, which needs a descriptor: running out of those may be why we are here.
    with suppress(OSError):
        how(path)
