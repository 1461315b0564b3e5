"""The socket of a shim: made, found taken, or found stale.

Made under a lock on its directory: between bind and listen a socket refuses connections exactly as one does that a dead
shim left behind, and whoever looked at that moment would remove it.

Source: unix(7); containerd pkg/shim/util_unix.go for names and limits.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
from pathlib import Path

from shim.errors import AlreadyExists, InvalidArgument, from_os_error
from shim.linux.locks import locked_directory

__all__ = ["containerd_socket", "listen", "own_socket"]

_SUN_PATH = 107
_BACKLOG = 4096


def own_socket(state_root: str, namespace: str, container_id: str) -> str:
    """Where the shim of a container of the command line listens; a hash, since an id may be longer than a path.

    Raises:
        InvalidArgument: ``state_root`` is too long.
    """
    name = hashlib.sha256(f"{namespace}\0{container_id}".encode()).hexdigest()[:32]
    return _checked(f"{state_root}/s/{name}", f"state root {state_root!r}")


def containerd_socket(directory: str, address: str, namespace: str, group: str) -> str:
    """Where containerd's shims listen: a hash of containerd's own address, the namespace and the group.

    Raises:
        InvalidArgument: ``directory`` is too long.
    """
    # Joined as containerd joins them, but not cleaned: a group of "/x" or "../x", which whoever writes annotations
    # chooses, must not become the shim of another namespace.
    name = hashlib.sha256(f"{address}/{namespace}/{group}".encode("utf-8", "surrogatepass")).hexdigest()
    return _checked(f"{directory}/{name}", f"socket directory {directory!r}")


def listen(path: str) -> socket.socket:
    """A listening socket at ``path``, mode 0600 in a directory made with 0700; the caller owns both.

    Raises:
        AlreadyExists: somebody listens there.
        ShimError: it cannot be made.
    """
    directory = os.path.dirname(path)
    try:
        if not os.path.isdir(directory):
            Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked_directory(directory):
            return _listen(path)
    except OSError as error:
        raise from_os_error(error, f"socket {path} cannot be made") from error


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        try:
            _bind(listener, path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            _bind(listener, path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind(listener: socket.socket, path: str) -> None:
    # A socket's mode comes from the umask. Whoever connects is asked for its uid all the same.
    umask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(umask)


def _remove_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        # The lock is held here, so nothing may wait: with a full backlog connect(2) would, and gives EAGAIN instead.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            # A file that is no socket refuses, too; it is not ours to remove.
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
            return
        except FileNotFoundError:
            return
    raise AlreadyExists(f"a shim listens on {path} already")


def _checked(path: str, what: str) -> str:
    if "\0" in path:
        raise InvalidArgument(f"{what} contains a NUL byte")
    size = len(os.fsencode(path))
    if size > _SUN_PATH:
        raise InvalidArgument(f"{what} is {size - _SUN_PATH} bytes too long for unix sockets in it")
    return path
