"""A ttrpc server on unix sockets, in the event loop of whoever creates it.

Who may connect: processes of our own effective uid and gid, as the kernel tells them (SO_PEERCRED), and nobody else; root is
no exception when we are not root. The directory of the socket should say the same, but a server must not depend on how
its path was made.

Every request has a handler of its own, so a Wait of hours and a Kill go over one connection at the same time.

Source: containerd/ttrpc server.go, unixcreds_linux.go.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final

from shim.linux.sockets import peer_credentials
from shim.transport.calls import NAMESPACE_KEY, CallContext, Method
from shim.transport.eager import EagerRunner
from shim.transport.listener import Listener
from shim.transport.peer import Peer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from shim.transport.call import Call

__all__ = ["NAMESPACE_KEY", "CallContext", "Method", "Server"]

_READ_SIZE: Final = 64 << 10

_log = logging.getLogger(__name__)


class Server:
    """Serves ``services``: full service name, then method name, to its Method. Made inside the event loop.

    ``on_idle`` is called whenever the last connection is gone and the last call has ended.
    """

    def __init__(
        self, services: Mapping[str, Mapping[str, Method]], on_idle: Callable[[], None] | None = None
    ) -> None:
        self.services = services
        self.runner = EagerRunner()
        self.buffer = memoryview(bytearray(_READ_SIZE))
        self._on_idle = on_idle
        self._listeners: list[Listener] = []
        self._peers: set[Peer] = set()
        self._calls: set[Call] = set()
        self._arriving: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return len(self._peers)

    @property
    def calls(self) -> int:
        """Handlers that run now, also those whose client is gone."""
        return len(self._calls)

    @property
    def idle(self) -> bool:
        """Whether nobody is connected and nothing runs."""
        return not self._peers and not self._calls and not self._arriving

    async def serve(self, sock: socket.socket) -> None:
        """Connections to ``sock``, a listening unix socket, are accepted from now on; returns at once.

        Takes ownership of ``sock``; its path stays the caller's. May be called for several sockets.
        """
        self._listeners.append(Listener(sock, self._accepted))

    async def close(self, grace_s: float = 1.0, linger_s: float = 0.0) -> None:
        """Nothing is accepted or read any more, running calls are answered, connections and sockets are closed.

        Clients have ``linger_s`` seconds to hang up first. Go's ttrpc, when the end of a connection comes with an answer,
        looks at either (client.go, dispatch: select), and takes the call for failed.

        Calls that have not ended after ``grace_s`` seconds are cancelled and answered with Canceled, shielded ones
        too. Must not be awaited by a handler, which would wait for itself.
        """
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        await asyncio.gather(*self._arriving)
        for peer in self._peers:
            peer.refuse()
        await self._until(lambda: not self._peers, linger_s)
        for peer in list(self._peers):
            peer.close()
        await self._until(lambda: not self._calls and not self._peers, grace_s)
        for call in list(self._calls):
            call.task.cancel()
        await self._until(lambda: not self._calls and not self._peers, grace_s)
        for peer in list(self._peers):
            peer.abort()
        await self._until(lambda: not self._peers, grace_s)
        self.runner.close()

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    def _accepted(self, sock: socket.socket) -> None:
        pid, uid, gid = peer_credentials(sock)
        ours = os.geteuid(), os.getegid()
        if (uid, gid) != ours:
            _log.warning(
                "refused a connection of pid %d: its uid is %d, its gid %d; ours %d and %d",
                pid,
                uid,
                gid,
                *ours,
            )
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._attach(sock, pid))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _attach(self, sock: socket.socket, pid: int) -> None:
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Peer(self, pid), sock)
        except OSError as error:  # epoll has its own limits
            _log.warning("lost a connection of pid %d: %s", pid, error)
            sock.close()

    # What a Peer reports.

    def connected(self, peer: Peer) -> None:
        """See PeerOwner."""
        self._peers.add(peer)

    def disconnected(self, peer: Peer) -> None:
        """See PeerOwner."""
        self._peers.discard(peer)
        self._check()

    def started(self, call: Call) -> None:
        """See PeerOwner."""
        self._calls.add(call)

    def finished(self, call: Call) -> None:
        """See PeerOwner."""
        self._calls.discard(call)
        self._check()

    def _check(self) -> None:
        self._changed.set()
        if self._on_idle is not None and self.idle:
            self._on_idle()
