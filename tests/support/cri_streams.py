"""A client of CRI's streaming server, to whose URL Exec, Attach and PortForward send: Kubernetes' channels over WebSocket.

The first byte of each message is the number of its channel. A forwarded port has two, for data and for errors, and on
each of them the server first says the port's number.
"""

from __future__ import annotations

import json
import os
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from shim.linux.fd import OwnedFd
from shim.linux.namespaces import CLONE_NEWNET, apart, setns

__all__ = ["STDERR", "Channels", "opened"]

STDIN, STDOUT, STDERR, STATUS, SIZE = range(5)
_PROTOCOL = Subprotocol("v4.channel.k8s.io")
_WAIT_S = 60.0


@contextmanager
def opened(url: str, network: Path) -> Iterator[Channels]:
    """A connection to the server at ``url`` in the network namespace ``network``."""
    address = urlsplit(url)
    sock = apart(lambda: _socket_in(network, (address.hostname, address.port)))
    where = address._replace(scheme="ws").geturl()
    with connect(where, sock=sock, subprotocols=[_PROTOCOL], compression=None, proxy=None) as connection:
        yield Channels(connection)


class Channels:
    """One connection; ``received`` has what came, by channel."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.received: dict[int, bytes] = defaultdict(bytes)

    def send(self, data: bytes, channel: int = STDIN) -> None:
        """``data`` is on its way, unless the server has ended the connection."""
        with suppress(ConnectionClosed):
            self._connection.send(bytes([channel]) + data)

    def resize(self, rows: int, columns: int) -> None:
        """The terminal is told its size."""
        self.send(json.dumps({"Width": columns, "Height": rows}).encode(), SIZE)

    def until(self, text: bytes, channel: int = STDOUT) -> None:
        """``text`` has come."""
        while text not in self.received[channel]:
            self._receive()

    def ended(self) -> Self:
        """The server has nothing more to say."""
        try:
            while True:
                self._receive()
        except ConnectionClosed:
            return self

    def exit_code(self) -> int:
        """What became of a command, once the server has ended the connection."""
        self.ended()
        status = json.loads(self.received[STATUS])
        if status["status"] == "Success":
            return 0
        return next(int(c["message"]) for c in status["details"]["causes"] if c["reason"] == "ExitCode")

    def _receive(self) -> None:
        message = self._connection.recv(timeout=_WAIT_S)
        assert isinstance(message, bytes)
        self.received[message[0]] += message[1:]


def _socket_in(network: Path, address: tuple[str | None, int | None]) -> socket.socket:
    with OwnedFd(os.open(network, os.O_RDONLY | os.O_CLOEXEC)) as namespace:
        setns(namespace.fileno(), CLONE_NEWNET)
    return socket.create_connection(address, timeout=_WAIT_S)
