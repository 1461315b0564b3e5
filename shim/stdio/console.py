"""The pty of a container, as the OCI runtime hands it over.

The runtime opens the pty inside the container's own devpts and sends the master over a unix socket, ``--console-socket``:
one connection, one message, one descriptor. The socket lies in a directory that only we can enter.

Source: runc docs/terminals.md; unix(7), SCM_RIGHTS.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import DeadlineExceeded, Unknown
from shim.linux.sockets import receive_fd

if TYPE_CHECKING:
    from shim.linux.fd import OwnedFd

__all__ = ["ConsoleSocket"]


class ConsoleSocket:
    """Listens in ``parent`` until the one pty has come. A context manager: socket and directory are gone after it."""

    def __init__(self, parent: str) -> None:
        self._dir = tempfile.mkdtemp(prefix="pty", dir=parent)
        self.path = str(Path(self._dir, "s"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(self.path)
            self._socket.listen(1)
        except OSError:
            self.close()
            raise

    async def receive(self, timeout_s: float) -> OwnedFd:
        """The pty's master; the caller owns it.

        Raises:
            DeadlineExceeded: nothing came in time.
            Unknown: what came was not one descriptor.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                connection, _ = await loop.sock_accept(self._socket)
                with connection:
                    await _readable(loop, connection)
                    _, master = receive_fd(connection)
        except TimeoutError:
            raise DeadlineExceeded(f"the OCI runtime sent no terminal within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise Unknown(f"the OCI runtime sent no valid terminal: {error}") from error
        return master

    def close(self) -> None:
        """Remove the socket and its directory."""
        self._socket.close()
        shutil.rmtree(self._dir, ignore_errors=True)


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_reader(connection.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection.fileno())
