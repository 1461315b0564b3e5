"""Start a shim process: its socket listens when ``start_shim`` returns.

The caller makes the socket and the shim inherits it, so a client can connect at once and be answered when the shim has
loaded; there is no moment at which the address exists and refuses. Imports little: the command line pays for them.

Source: containerd docs/runtime-v2.md; unix(7) for the length of a path.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shim import _native
from shim.errors import AlreadyExists, InvalidArgument, from_os_error

__all__ = ["Started", "socket_path", "start_shim"]

_SUN_PATH = 107
_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Started:
    """A running shim."""

    address: str
    """``unix:///…``, for any ttrpc client of our uid."""
    pid: int


def socket_path(state_root: str, namespace: str, container_id: str) -> str:
    """Where the shim of this container listens; a hash, since an id may be longer than a socket's path.

    Raises:
        InvalidArgument: ``state_root`` is too long.
    """
    name = hashlib.sha256(f"{namespace}\0{container_id}".encode()).hexdigest()[:32]
    path = f"{state_root}/s/{name}"
    if len(os.fsencode(path)) > _SUN_PATH:
        limit = _SUN_PATH - len(f"/s/{name}")
        raise InvalidArgument(
            f"state root {state_root!r} is too long for unix sockets; {limit} bytes at most"
        )
    return path


def start_shim(*, state_root: str, namespace: str, id: str, bundle: str, debug: bool = False) -> Started:  # noqa: A002 - containerd's name for it
    """A shim process serves ``id``; it is a session of its own, and logs into ``<bundle>/shim.log``.

    Raises:
        AlreadyExists: one does already.
        InvalidArgument: a path is too long.
        ShimError: it cannot be started; nothing is left.
    """
    path = socket_path(state_root, namespace, id)
    listener = _listen(path)
    try:
        with listener:
            pid = _spawn(listener, path, namespace, id, bundle, debug=debug)
    except OSError as error:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - plain text
        raise from_os_error(error, f"the shim of container {id} cannot be started") from error
    return Started(f"unix://{path}", pid)


def _listen(path: str) -> socket.socket:
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"socket directory {Path(path).parent} cannot be made") from error
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _bind(listener, path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind(listener: socket.socket, path: str) -> None:
    # The mode of a socket comes from the umask. Its directory is 0700 as well, and the shim asks who connects.
    umask = os.umask(0o177)
    try:
        try:
            listener.bind(path)
        except FileExistsError:
            _remove_stale(path)
            listener.bind(path)
        except OSError as error:
            if error.errno != 98:  # EADDRINUSE
                raise
            _remove_stale(path)
            listener.bind(path)
    except OSError as error:
        raise from_os_error(error, f"socket {path} cannot be made") from error
    finally:
        os.umask(umask)


def _remove_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108 - plain text
            return
        except FileNotFoundError:
            return
    raise AlreadyExists(f"a shim listens on {path} already")


def _spawn(
    listener: socket.socket, path: str, namespace: str, container_id: str, bundle: str, *, debug: bool
) -> int:
    argv = [
        sys.executable,
        "-m",
        "shim.bootstrap",
        "--namespace",
        namespace,
        "--id",
        container_id,
        "--socket",
        path,
    ]
    if debug:
        argv.append("--debug")
    log = os.open(f"{bundle}/shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        pid, pidfd = _native.spawn(
            [os.fsencode(word) for word in argv],
            [os.fsencode(f"{key}={value}") for key, value in os.environ.items()],
            [null, log, log, listener.fileno()],
            cwd=os.fsencode(bundle),
            setsid=True,
        )
    finally:
        os.close(log)
        os.close(null)
    os.close(pidfd)
    return pid
