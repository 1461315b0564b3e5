"""A fork of the template: waits for one request, does it, and becomes the shim if that is what was asked for.

Until it says that it has taken the request, whatever goes wrong ends it, and the launcher turns to the interpreter. From
then on it dies with the launcher until it has given it the exit status.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from shim.bootstrap import containerd
from shim.bootstrap.__main__ import run
from shim.bootstrap.caller import Surroundings
from shim.bootstrap.preload import after_fork
from shim.bootstrap.request import receive, take_over
from shim.bootstrap.start import open_log, shim_arguments
from shim.errors import FailedPrecondition, ShimError, from_os_error
from shim.linux.prctl import set_command_line, set_parent_death_signal
from shim.linux.sockets import killed_by_hangup, peer_credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.bootstrap.request import Request
    from shim.bootstrap.start import Plan

__all__ = ["wait_and_serve"]

_TAKEN = b"T"
_SENT_WITHIN_S = 2


class _Shim:
    """This very process will be the shim."""

    def __init__(self, caller: int) -> None:
        self.caller = caller
        self.plan: Plan | None = None
        self.log = -1
        self.listener = -1

    def start(self, plan: Plan) -> int:
        """The log is open, the listener kept: nothing that can fail is left."""
        try:
            self.log = open_log(plan.bundle)
        except OSError as error:
            with suppress(OSError):
                os.unlink(plan.path)
            raise from_os_error(error, f"the shim of container {plan.id} cannot be started") from error
        self.listener = os.dup(plan.listener.fileno())
        self.plan = plan
        return os.getpid()

    def give_up(self, pid: int) -> None:  # noqa: ARG002 - it is ours
        """It ends after the answer."""
        self.plan = None


def wait_and_serve(
    template: int, listener: socket.socket, tell: int, unchanged: Callable[[], bool]
) -> NoReturn:
    """One request is waited for, and done; the process ends here. A byte is written to ``tell`` when there is one."""
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != template:
        os._exit(0)
    after_fork()
    own = Surroundings.of(os.getpid())
    connection, _ = listener.accept()
    os.write(tell, b"!")
    try:
        request, shim = _prepare(connection, own, unchanged)
    except (OSError, ShimError) as error:
        with suppress(OSError):
            connection.send(str(error).encode(errors="replace"))
        os._exit(1)
    with killed_by_hangup(connection):
        set_parent_death_signal(0)
        # The launcher has given up when this fails, and we end.
        connection.send(_TAKEN)
        status = _answer(request, shim)
        _let_go(shim)
    connection.send(bytes([status & 0xFF]))
    if shim.plan is None:
        os._exit(status)
    _become(shim, shim.plan, request)


def _prepare(
    connection: socket.socket, own: Surroundings, unchanged: Callable[[], bool]
) -> tuple[Request, _Shim]:
    """We are as if the caller had started us.

    Raises:
        OSError: there is no request, or a part of it cannot be had.
        ShimError: it is none that we can do.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@qq", _SENT_WITHIN_S, 0))
    peer = peer_credentials(connection)
    request = receive(connection)
    surroundings = Surroundings.of(peer.pid)
    if not unchanged():
        raise FailedPrecondition("files of the program have changed")
    surroundings.adopt(own)
    take_over(request)
    return request, _Shim(surroundings.parent)


def _answer(request: Request, shim: _Shim) -> int:
    try:
        return containerd.main([os.fsdecode(word) for word in request.arguments[1:]], shim)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
        return 1
    finally:
        with suppress(OSError):
            sys.stdout.flush()


def _let_go(shim: _Shim) -> None:
    """The caller's streams are not held any more, at whose end it knows that all was said."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    for number in (1, 2):
        os.dup2(shim.log if shim.plan else null, number)
    os.close(null)


def _become(shim: _Shim, plan: Plan, request: Request) -> NoReturn:
    os.setsid()
    listener = os.dup2(shim.listener, 3, inheritable=False)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(plan.env)
    with suppress(OSError):
        set_command_line([os.fsencode(word) for word in shim_arguments(plan)], request.environment)
    status = run(socket.socket(fileno=listener), plan.path, plan.namespace, debug=plan.debug)
    os._exit(status)
