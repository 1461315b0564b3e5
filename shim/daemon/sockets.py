"""The sockets that the daemon makes itself, each listening when it is returned, CLOEXEC, and the caller's.

Source: unix(7), ip(7), ipv6(7).
"""

from __future__ import annotations

import os
import socket

from shim.bootstrap.listener import listen
from shim.daemon.config import parse_address
from shim.errors import AlreadyExists, InvalidArgument, from_os_error

__all__ = ["tcp_listener", "unix_listener"]

_BACKLOG = 1024


def unix_listener(path: str, group: int | None) -> socket.socket:
    """A socket at ``path``: mode 0600, or 0660 and of ``group``. What a dead daemon has left there is replaced.

    Raises:
        AlreadyExists: somebody listens there.
        ShimError: it cannot be made.
    """
    try:
        sock = listen(path)
    except AlreadyExists:
        raise AlreadyExists(f"another daemon listens on {path} already") from None
    if group is None:
        return sock
    try:
        os.chown(path, -1, group)
        os.chmod(path, 0o660)
    except OSError as error:
        sock.close()
        os.unlink(path)
        raise from_os_error(error, f"socket {path} cannot be given to group {group}") from error
    return sock


def tcp_listener(address: str) -> socket.socket:
    """A socket at ``address:port``, for TLS.

    Raises:
        InvalidArgument: there is no such address.
        ShimError: it cannot be made.
    """
    host, port = parse_address("tcp", address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise InvalidArgument(f"daemon: tcp = {address!r}: {error.strerror}") from error
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    try:
        # A port whose last connections are in TIME_WAIT can be bound; one on which somebody listens cannot.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise from_os_error(error, f"cannot listen on {address}") from error
    return sock
