"""What the launcher sends: arguments, environment, working directory and the three standard streams.

Its form is in native/launcher.c, of the same build as this: the launcher's file is part of the template's address.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.linux.sockets import receive_fds

if TYPE_CHECKING:
    import socket

    from shim.linux.fd import OwnedFd

__all__ = ["Request", "receive", "take_over"]

_HEADER = struct.Struct("=II")
_DESCRIPTORS = 4
_FIRST = 65536


@dataclass(frozen=True, slots=True)
class Request:
    """Owns the descriptors."""

    arguments: list[bytes]
    environment: list[bytes]
    directory: OwnedFd
    streams: list[OwnedFd]

    def close(self) -> None:
        """All descriptors are closed."""
        for fd in (self.directory, *self.streams):
            fd.close()


def receive(connection: socket.socket) -> Request:
    """The request; the caller owns it.

    Raises:
        OSError: the peer hung up, let us wait for too long, or sent something else.
    """
    data, fds = receive_fds(connection, _FIRST, _DESCRIPTORS)
    size, count = _HEADER.unpack_from(data)
    while len(data) < _HEADER.size + size:
        more = connection.recv(_HEADER.size + size - len(data))
        if not more:
            raise OSError(errno.EBADMSG, "the launcher hung up")
        data += more
    words = data[_HEADER.size :].split(b"\0")[:-1]
    return Request(words[:count], words[count:], fds[0], fds[1:])


def take_over(request: Request) -> None:
    """The standard streams, the working directory and the environment are the request's, whose descriptors are closed."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream.fileno(), number)
    os.fchdir(request.directory.fileno())
    request.close()
    os.environ.clear()
    for variable in request.environment:
        name, equals, value = variable.partition(b"=")
        if name and equals:
            os.environb[name] = value
