"""Sockets that systemd has made for us.

Names, since a unit may give several: ``http``, ``grpc``. What has another name, or is no listening stream socket, is an
error: a socket nobody accepts from would take connections and never answer.

Source: sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["NAMES", "take_sockets"]

NAMES: Final = ("http", "grpc")

_FIRST_FD: Final = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def take_sockets(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The sockets by name, CLOEXEC, which the caller owns; ``environment`` does not tell of them any more.

    A single socket without a name of ours is ``http``. Empty when they are meant for another process, or there are none.

    Raises:
        InvalidArgument: one is not what we can use; all are closed.
    """
    told = {name: environment.pop(name, "") for name in _VARIABLES}
    if told["LISTEN_PID"] != str(os.getpid()):
        return {}
    count = told["LISTEN_FDS"]
    if not count.isascii() or not count.isdecimal():
        raise InvalidArgument(f"LISTEN_FDS = {count!r} is no number")
    fds = range(_FIRST_FD, _FIRST_FD + int(count))
    names = told["LISTEN_FDNAMES"].split(":") if told["LISTEN_FDNAMES"] else []
    if len(fds) == 1 and (not names or names[0] not in NAMES):
        names = ["http"]
    found: dict[str, list[socket.socket]] = {}
    with ExitStack() as undo:
        sockets = [undo.enter_context(_adopted(fd)) for fd in fds]
        if len(names) != len(sockets):
            raise InvalidArgument(f"LISTEN_FDNAMES names {len(names)} of {len(sockets)} sockets")
        for name, sock in zip(names, sockets, strict=True):
            _check(name, sock)
            found.setdefault(name, []).append(sock)
        undo.pop_all()
    return found


def _adopted(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        return socket.socket(fileno=fd)
    except OSError as error:
        raise InvalidArgument(f"descriptor {fd} of LISTEN_FDS is no socket: {error.strerror}") from error


def _check(name: str, sock: socket.socket) -> None:
    if name not in NAMES:
        raise InvalidArgument(f"LISTEN_FDNAMES: {name!r} is none of {', '.join(NAMES)}")
    if sock.family != socket.AF_UNIX and name == "grpc":
        raise InvalidArgument("the socket 'grpc' of systemd must be a unix socket")
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.type != socket.SOCK_STREAM or not listens:
        raise InvalidArgument(f"the socket {name!r} of systemd is no listening stream socket")
