"""A fork of the template: waits for one request, does it, and becomes the shim if that is what was asked for.

Until it says that it has taken the request, whatever goes wrong ends it, and the launcher turns to the interpreter. From
then on it dies with the launcher until it has given it the exit status.
"""

from __future__ import annotations

import errno
import faulthandler
import logging
import os
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from shim.bootstrap import containerd
from shim.bootstrap.__main__ import run
from shim.bootstrap.caller import WAITING, Surroundings, is_alone, join_cgroups, leave_cgroups
from shim.bootstrap.preload import after_fork
from shim.bootstrap.rehearsal import client, rehearsal
from shim.bootstrap.request import receive, take_over
from shim.bootstrap.start import SOCKET_DIR, Plan, open_log, shim_arguments
from shim.cgroup.hierarchy import Hierarchy
from shim.errors import FailedPrecondition, ShimError, from_os_error
from shim.linux.fd import OwnedFd
from shim.linux.prctl import (
    get_name,
    set_child_subreaper,
    set_command_line,
    set_name,
    set_parent_death_signal,
)
from shim.linux.sockets import killed_by_hangup, peer_credentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from shim.bootstrap.request import Request
    from shim.linux.inotify import FileWatch

__all__ = ["rehearse", "wait_and_serve"]

_READY = b"R"
_TAKEN = b"T"
_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
_QUIET_S = 0.01
_LOOK_S = 2.0
# Two seconds, as SO_RCVTIMEO wants them.
_SENT_WITHIN = struct.pack("@qq", 2, 0)


class _Shim:
    """This very process will be the shim, if one is asked for."""

    def __init__(self, socket_dir: str = SOCKET_DIR) -> None:
        self.caller = 0
        self.socket_dir = socket_dir
        self.plan: Plan | None = None
        # Ahead: the caller may have a limit below what is open already.
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.log = -1
        self.listener = -1

    def start(self, plan: Plan) -> int:
        """The log is open, the listener kept: nothing that can fail is left.

        Raises:
            ShimError: the log cannot be opened.
        """
        try:
            self.log = open_log(plan.bundle)
        except OSError as error:
            raise from_os_error(error, f"the shim of container {plan.id} cannot be started") from error
        self.listener = os.dup(plan.listener.fileno())
        self.plan = plan
        return os.getpid()

    def give_up(self, pid: int) -> None:  # noqa: ARG002 - it is ours
        """It ends after the answer."""
        self.plan = None

    def let_go(self) -> None:
        """The caller's streams are not held any more, at whose end it knows that all was said; without a shim nothing is."""
        for number, fd in enumerate((self._null, *[self.log if self.plan else self._null] * 2)):
            os.dup2(fd, number)
        if self.plan is None:
            os.chdir("/")
            self.close()

    def forget(self) -> None:
        """There will be none after all."""
        self.plan = None
        self.let_go()

    def close(self) -> None:
        """What was opened is held no more."""
        for fd in (self._null, self.log, self.listener):
            if fd >= 0:
                os.close(fd)
        self._null = self.log = self.listener = -1


def wait_and_serve(
    template: int, listener: socket.socket, watch: FileWatch, tell: OwnedFd, cgroups: bytes
) -> NoReturn:
    """One request is waited for, and done; the process ends here.

    It waits in ``cgroups``, those of the last caller, which is likely to be the next, while there is anybody else. To ``tell``
    it writes those of the caller, or an empty line when there was none.
    """
    set_parent_death_signal(signal.SIGKILL)
    set_name(WAITING)
    after_fork()
    joined: set[str] = set()
    with suppress(OSError, ShimError):
        joined = join_cgroups(cgroups)
    own = Surroundings.of(os.getpid())
    if not _is_readable(listener, _QUIET_S):
        with suppress(OSError, ShimError):
            rehearse(template, f"{listener.getsockname()}.rehearsal", own, watch)
    if os.getppid() != template:
        os._exit(0)
    shim = _Shim()
    while joined and not _is_readable(listener, _LOOK_S):
        if is_alone(joined):
            leave_cgroups()
            own = Surroundings.of(os.getpid())
            joined = set()
    connection, _ = listener.accept()
    try:
        status = _do(connection, shim, own, tell, watch)
    except (OSError, ShimError) as error:
        with suppress(OSError):
            os.write(tell.fileno(), b"\n")
            connection.send(str(error).encode(errors="replace"))
        os._exit(1)
    if shim.plan is None:
        os._exit(status)
    # Not all from 3 on: libraries have descriptors of their own, as libffi does for its closures.
    for file in (listener, watch, tell, connection):
        file.close()
    _become(shim, shim.plan)


def _is_readable(file: socket.socket | FileWatch, timeout_s: float) -> bool:
    return bool(select.select([file], [], [], timeout_s)[0])


def _do(connection: socket.socket, shim: _Shim, own: Surroundings, tell: OwnedFd, watch: FileWatch) -> int:
    """The request that comes is done, and its exit status is told and returned; ours are the surroundings of the caller.

    Raises:
        OSError: there is no request, or a part of it cannot be had.
        ShimError: it is none that we can do.
    """
    connection.send(_READY)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _SENT_WITHIN)
    peer = peer_credentials(connection)
    request = receive(connection)
    surroundings = Surroundings.of(peer.pid)
    os.write(tell.fileno(), surroundings.cgroups)
    if _is_readable(watch, 0):
        raise FailedPrecondition("files of the program have changed")
    surroundings.adopt(own)
    take_over(request)
    shim.caller = surroundings.parent
    with killed_by_hangup(connection):
        set_parent_death_signal(0)
        # The launcher has given up when this fails, and we end.
        connection.send(_TAKEN)
        status = _answer(request, shim)
        shim.let_go()
    connection.send(bytes([status & 0xFF]))
    return status


def rehearse(
    parent: int,
    scratch: str,
    own: Surroundings,
    watch: FileWatch,
    company: Callable[[str], AbstractContextManager[None]] = client,
) -> None:
    """All of it was done once, with the life of a shim in ``company``: pages to which it writes need not be copied any more.

    It dies with ``parent`` but for a moment, after which it fails.

    Raises:
        OSError: something that it takes is not to be had.
        ShimError: it cannot be done here.
    """
    shim = _Shim(".")  # the way there may be too long for sockets
    try:
        with (
            rehearsal(scratch) as connection,
            OwnedFd(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)) as tell,
        ):
            _do(connection, shim, own, tell, watch)
            # It would serve for ever, deaf to SIGTERM as a shim is, if its company died with the parent.
            _die_with(parent)
            if shim.plan:
                _rehearse_life(shim, shim.plan, company)
    finally:
        set_parent_death_signal(signal.SIGKILL)
        if shim.plan:
            shim.forget()
        own.adopt(Surroundings.of(os.getpid()))


def _die_with(parent: int) -> None:
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(errno.ESRCH, "the parent has ended")


def _rehearse_life(shim: _Shim, plan: Plan, company: Callable[[str], AbstractContextManager[None]]) -> None:
    """A shim has served ``company``, which asks it to end. What only a shim should have is as it was before."""
    name = get_name()
    try:
        with company(plan.path):
            listener = socket.socket(fileno=shim.listener)
            shim.listener = -1
            run(listener, plan.path, plan.namespace, debug=False, hierarchy=Hierarchy("none"))
    finally:
        set_name(name)
        set_child_subreaper(enabled=False)
        faulthandler.unregister(signal.SIGUSR1)
        root = logging.getLogger()
        root.handlers.clear()
        root.setLevel(logging.WARNING)


def _answer(request: Request, shim: _Shim) -> int:
    words = [os.fsdecode(word) for word in request.arguments[1:]]
    try:
        return _serve_stdin(words, shim) if words[:1] == ["shim"] else containerd.main(words, shim)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
        return 1
    finally:
        with suppress(OSError):
            sys.stdout.flush()


def _serve_stdin(words: list[str], shim: _Shim) -> int:
    """``shim PATH NAMESPACE ID [debug]``, for ``start_shim``: stdin is the socket at PATH. Prints the pid."""
    _, path, namespace, container_id, *debug = words
    env = {key: value for key, value in os.environ.items() if key != "OCISHIM_TEMPLATE"}
    with socket.socket(fileno=os.dup(0)) as listener:
        shim.start(Plan(listener, path, namespace, container_id, os.getcwd(), env, bool(debug)))
    print(os.getpid())  # noqa: T201 - the answer
    return 0


def _become(shim: _Shim, plan: Plan) -> NoReturn:
    """As ``spawn_shim`` has it: a session of its own, default signals, no descriptors but these."""
    os.setsid()
    for number in signal.valid_signals() - _IGNORED_BY_PYTHON:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    listener = socket.socket(fileno=shim.listener)
    shim.listener = -1
    shim.close()
    os.environ.clear()
    os.environ.update(plan.env)
    with suppress(OSError):
        set_command_line(
            [os.fsencode(word) for word in shim_arguments(plan)],
            [b"%b=%b" % variable for variable in os.environb.items()],
        )
    status = run(listener, plan.path, plan.namespace, debug=plan.debug)
    os._exit(status)
