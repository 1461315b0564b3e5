"""What AF_UNIX sockets can do besides bytes: who the peer is, and descriptors.

Source: unix(7), SO_PEERCRED and SCM_RIGHTS; cmsg(3).
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import signal
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "PeerCredentials",
    "killed_by_hangup",
    "peer_credentials",
    "peer_groups",
    "receive_fd",
    "receive_fds",
]

# socket(7) does not tell of it, nor does the module; getsockopt of the module fills 1024 bytes and no more.
SO_PEERGROUPS = 59
_MOST_GROUPS = 256

_UCRED = struct.Struct("=iII")

# fcntl(2); the module has no name for it. The type and a pid.
F_SETOWN_EX = 15
F_OWNER_PID = 1

_INT_SIZE = array.array("i").itemsize

# Room for two descriptors: enough to see that there is more than one. The kernel closes what does not fit.
_CONTROL_SIZE = socket.CMSG_SPACE(2 * _INT_SIZE)


class PeerCredentials(NamedTuple):
    """Who called connect(2) or socketpair(2), at that moment; pid 0 is a process of another pid namespace."""

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: socket.socket) -> PeerCredentials:
    """The process at the other end of a connected AF_UNIX stream socket."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return PeerCredentials(*_UCRED.unpack(raw))


def peer_groups(sock: socket.socket) -> frozenset[int]:
    """The supplementary groups of the process at the other end, as of when it connected; none where it has more than 256.

    Source: Linux 4.13, net/core/sock.c, SO_PEERGROUPS.
    """
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _MOST_GROUPS * _INT_SIZE)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return frozenset()
    return frozenset(array.array("I", raw))


def _descriptors(control: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            # A truncated message may end inside a number.
            fds.frombytes(data[: len(data) - len(data) % _INT_SIZE])
    return list(fds)


def receive_fd(sock: socket.socket) -> tuple[bytes, OwnedFd]:
    """One message of at most 4096 bytes, and the one descriptor that came with it, CLOEXEC.

    Raises:
        OSError: EBADMSG, the message has no descriptor or more than one (all are closed), or the peer hung up.
        BlockingIOError: the socket is non-blocking and nothing is there.
    """
    data, control, flags, _ = sock.recvmsg(4096, _CONTROL_SIZE, socket.MSG_CMSG_CLOEXEC)
    fds = _descriptors(control)
    if len(fds) == 1 and not flags & socket.MSG_CTRUNC:
        return data, OwnedFd(fds[0])
    for fd in fds:
        os.close(fd)
    if not data and not fds:
        raise OSError(errno.EBADMSG, "the peer hung up without sending a descriptor")
    raise OSError(errno.EBADMSG, f"expected a message with one descriptor, got {len(fds)}")


def receive_fds(sock: socket.socket, limit: int, count: int) -> tuple[bytes, list[OwnedFd]]:
    """The first at most ``limit`` bytes that are there, and the ``count`` descriptors that came with them, CLOEXEC.

    Raises:
        OSError: EBADMSG, there came another number of descriptors (all are closed), or the peer hung up.
    """
    data, control, flags, _ = sock.recvmsg(
        limit, socket.CMSG_SPACE((count + 1) * _INT_SIZE), socket.MSG_CMSG_CLOEXEC
    )
    fds = [OwnedFd(fd) for fd in _descriptors(control)]
    if len(fds) == count and not flags & socket.MSG_CTRUNC:
        return data, fds
    for fd in fds:
        fd.close()
    raise OSError(errno.EBADMSG, f"expected a message with {count} descriptors, got {len(fds)}")


@contextmanager
def killed_by_hangup(sock: socket.socket) -> Iterator[None]:
    """While the body runs we are killed when the peer closes its end; it must not send anything meanwhile, either.

    A peer that has hung up before is for the caller to see: whatever is sent to it fails with EPIPE.

    Source: fcntl(2), F_SETSIG and O_ASYNC.
    """
    flags = fcntl.fcntl(sock, fcntl.F_GETFL)
    fcntl.fcntl(sock, F_SETOWN_EX, struct.pack("=ii", F_OWNER_PID, os.getpid()))
    fcntl.fcntl(sock, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(sock, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(sock, fcntl.F_SETFL, flags)
