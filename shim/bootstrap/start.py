"""Start a shim process: its socket listens when this returns.

The caller makes the socket and the shim inherits it, so a client can connect at once and is answered when the shim has
loaded; there is no moment at which the address exists and refuses. Imports little: whoever starts a shim pays for them.

Source: containerd docs/runtime-v2.md.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shim import _native
from shim.bootstrap.listener import listen, own_socket
from shim.errors import from_os_error
from shim.linux.fd import OwnedFd, pipe

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

__all__ = [
    "EVENTS_VARIABLE",
    "SOCKET_DIR",
    "Interpreter",
    "Plan",
    "Started",
    "Starter",
    "open_log",
    "shim_arguments",
    "spawn_shim",
    "start_shim",
]

SOCKET_DIR = "/run/containerd/s"

EVENTS_VARIABLE = "OCISHIM_EVENTS"
"""In the environment of a shim: where its own daemon takes events. containerd's is TTRPC_ADDRESS."""

_OF_STARTER = ("TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE", "MAX_SHIM_VERSION", EVENTS_VARIABLE)


@dataclass(frozen=True, slots=True)
class Started:
    """A running shim."""

    address: str
    """``unix:///…``, for any ttrpc client of our uid."""
    pid: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a shim process is told."""

    listener: socket.socket
    """Bound to ``path``; whoever has the plan does not own it."""
    path: str
    namespace: str
    id: str
    bundle: str
    """Its working directory. Its log is the FIFO ``log`` there, which containerd makes, else ``shim.log``."""
    env: Mapping[str, str]
    debug: bool = False
    open_files: int = -1
    """Its soft limit of descriptors, and so that of what it starts; -1: ours."""


class Starter(Protocol):
    """A way to come by a shim process."""

    caller: int
    """The process that asked for it, containerd."""
    socket_dir: str
    """Where it listens, unless containerd says otherwise."""

    def start(self, plan: Plan) -> int:
        """A shim process will serve as planned; returns its pid. Raises ShimError, and then nothing is left."""

    def give_up(self, pid: int) -> None:
        """It will not, after all."""


class Interpreter:
    """The shim is a new process with an interpreter of its own."""

    socket_dir = SOCKET_DIR

    def __init__(self) -> None:
        self.caller = os.getppid()

    def start(self, plan: Plan) -> int:
        """See ``spawn_shim``."""
        return spawn_shim(plan)

    def give_up(self, pid: int) -> None:
        """It is killed."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start_shim(
    *,
    state_root: str,
    namespace: str,
    id: str,  # noqa: A002 - containerd's name for it
    bundle: str,
    debug: bool = False,
    events_address: str = "",
    open_files: int = -1,
) -> Started:
    """A shim process serves ``id``; it is a session of its own, and logs into ``<bundle>/shim.log``.

    It tells its events to the daemon that serves ``events_address``, a path, as it would containerd; empty: to nobody.
    ``open_files`` is its soft limit of descriptors, and so that of what it starts; -1: ours.

    Raises:
        AlreadyExists: one does already.
        InvalidArgument: a path is too long.
        ShimError: it cannot be started; nothing is left.
    """
    path = own_socket(state_root, namespace, id)
    # Nobody but the caller is to hear of this container, whatever started the caller.
    env = {key: value for key, value in os.environ.items() if key not in _OF_STARTER}
    if events_address:
        env[EVENTS_VARIABLE] = events_address
    with listen(path) as listener:
        plan = Plan(listener, path, namespace, id, bundle, env, debug, open_files)
        pid = _fork_shim(plan) or spawn_shim(plan)
    return Started(f"unix://{path}", pid)


def _fork_shim(plan: Plan) -> int | None:
    """As ``spawn_shim``, by the template; None: there is none, or it cannot, and nothing was done.

    The launcher asks it. Only that knows where it listens, and it is what would start one.
    """
    launcher = Path(sys.executable).with_name("containerd-shim-ocishim-v2")
    if plan.env.get("OCISHIM_TEMPLATE") == "off" or not launcher.exists():
        return None
    words = [str(launcher), "shim", plan.path, plan.namespace, plan.id, *(["debug"] if plan.debug else [])]
    env = {**plan.env, "OCISHIM_TEMPLATE": "only"}
    try:
        answer, its = pipe()
        with answer, OwnedFd(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) as null:
            with its:
                pid, pidfd = _native.spawn(
                    [os.fsencode(word) for word in words],
                    [os.fsencode(f"{key}={value}") for key, value in env.items()],
                    [plan.listener.fileno(), its.fileno(), null.fileno()],
                    cwd=os.fsencode(plan.bundle),
                    open_files=plan.open_files,
                )
            os.close(pidfd)
            text = os.read(answer.fileno(), 32)
    except OSError:
        # Whatever it is, the other way meets it, too, and has words for it.
        return None
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return int(text) if text else None


def shim_arguments(plan: Plan) -> list[str]:
    """The command line of the shim's interpreter."""
    words = ["--namespace", plan.namespace, "--id", plan.id, "--socket", plan.path]
    return [sys.executable, "-m", "shim.bootstrap", *words, *(["--debug"] if plan.debug else [])]


def spawn_shim(plan: Plan) -> int:
    """A shim process with an interpreter of its own serves as planned; returns its pid.

    Raises:
        ShimError: it cannot be started; the socket's path is gone.
    """
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            log = open_log(plan.bundle)
            try:
                pid, pidfd = _native.spawn(
                    [os.fsencode(word) for word in shim_arguments(plan)],
                    [os.fsencode(f"{key}={value}") for key, value in plan.env.items()],
                    [null, log, log, plan.listener.fileno()],
                    cwd=os.fsencode(plan.bundle),
                    setsid=True,
                    open_files=plan.open_files,
                )
            finally:
                os.close(log)
        finally:
            os.close(null)
    except OSError as error:
        with suppress(OSError):
            os.unlink(plan.path)
        raise from_os_error(error, f"the shim of container {plan.id} cannot be started") from error
    os.close(pidfd)
    return pid


def open_log(bundle: str) -> int:
    """A descriptor for the shim's log lines, CLOEXEC, which the caller owns."""
    # containerd holds its FIFO open for reading and writing, so this does not block; after its death nobody does, and the
    # shim's log lines are dropped until it is back.
    with suppress(OSError):
        return os.open(f"{bundle}/log", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.open(f"{bundle}/shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
