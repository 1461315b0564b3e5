"""Start a shim process: its socket listens when this returns.

The caller makes the socket and the shim inherits it, so a client can connect at once and is answered when the shim has
loaded; there is no moment at which the address exists and refuses. Imports little: whoever starts a shim pays for them.

Source: containerd docs/runtime-v2.md.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim import _native
from shim.bootstrap.listener import listen, own_socket
from shim.errors import from_os_error

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

__all__ = ["Started", "spawn_shim", "start_shim"]

_OF_CONTAINERD = ("TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE", "MAX_SHIM_VERSION")


@dataclass(frozen=True, slots=True)
class Started:
    """A running shim."""

    address: str
    """``unix:///…``, for any ttrpc client of our uid."""
    pid: int


def start_shim(*, state_root: str, namespace: str, id: str, bundle: str, debug: bool = False) -> Started:  # noqa: A002 - containerd's name for it
    """A shim process serves ``id``; it is a session of its own, and logs into ``<bundle>/shim.log``.

    Raises:
        AlreadyExists: one does already.
        InvalidArgument: a path is too long.
        ShimError: it cannot be started; nothing is left.
    """
    path = own_socket(state_root, namespace, id)
    # Nobody but the caller is to hear of this container, whatever started the caller.
    env = {key: value for key, value in os.environ.items() if key not in _OF_CONTAINERD}
    with listen(path) as listener:
        pid = spawn_shim(listener, path, namespace=namespace, id=id, bundle=bundle, env=env, debug=debug)
    return Started(f"unix://{path}", pid)


def spawn_shim(
    listener: socket.socket,
    path: str,
    *,
    namespace: str,
    id: str,  # noqa: A002 - containerd's name for it
    bundle: str,
    env: Mapping[str, str],
    debug: bool = False,
) -> int:
    """A shim process serves ``listener`` (not owned), which is bound to ``path``; returns its pid.

    Its working directory is ``bundle``. Its log is the FIFO ``log`` there, which containerd makes, else ``shim.log``.

    Raises:
        ShimError: it cannot be started; the socket's path is gone.
    """
    argv = [sys.executable, "-m", "shim.bootstrap", "--namespace", namespace, "--id", id, "--socket", path]
    if debug:
        argv.append("--debug")
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            log = _open_log(bundle)
            try:
                pid, pidfd = _native.spawn(
                    [os.fsencode(word) for word in argv],
                    [os.fsencode(f"{key}={value}") for key, value in env.items()],
                    [null, log, log, listener.fileno()],
                    cwd=os.fsencode(bundle),
                    setsid=True,
                )
            finally:
                os.close(log)
        finally:
            os.close(null)
    except OSError as error:
        with suppress(OSError):
            os.unlink(path)
        raise from_os_error(error, f"the shim of container {id} cannot be started") from error
    os.close(pidfd)
    return pid


def _open_log(bundle: str) -> int:
    # containerd holds its FIFO open for reading and writing, so this does not block; after its death nobody does, and the
    # shim's log lines are dropped until it is back.
    with suppress(OSError):
        return os.open(f"{bundle}/log", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.open(f"{bundle}/shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
