"""What the launcher sends: arguments, environment, working directory and the three standard streams.

Its form is in native/launcher.c, of the same build as this: the launcher's file is part of the template's address.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass

from shim.linux.fd import OwnedFd
from shim.linux.sockets import receive_fds

__all__ = ["Request", "receive", "send", "take_over"]

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


def send(
    connection: socket.socket, arguments: list[bytes], environment: list[bytes], directory: str, stdin: str
) -> None:
    """What the launcher does, with nobody to read the output."""
    words = b"".join(word + b"\0" for word in (*arguments, *environment))
    with (
        OwnedFd(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as folder,
        OwnedFd(os.open(stdin, os.O_RDONLY | os.O_CLOEXEC)) as source,
        OwnedFd(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)) as null,
    ):
        fds = [folder.fileno(), source.fileno(), null.fileno(), null.fileno()]
        socket.send_fds(connection, [_HEADER.pack(len(words), len(arguments)) + words], fds)


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
