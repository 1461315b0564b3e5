"""The process that goes on in a template's place, once it has rehearsed whole lives of shims.

What they write to when they do something for the first time, bytecode that is specialized, caches, objects made on demand, is
written before they are forked, so that they share it. Should the rehearsal fail, hang or die, the template goes on without.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from contextlib import contextmanager, suppress
from select import select
from typing import TYPE_CHECKING

from shim.bootstrap.caller import Surroundings
from shim.bootstrap.fork import rehearse
from shim.bootstrap.hot_code import put_together, recorded
from shim.bootstrap.life import whole_life
from shim.errors import ShimError
from shim.linux.fd import OwnedFd
from shim.linux.prctl import set_parent_death_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.linux.inotify import FileWatch

__all__ = ["rehearsed"]

_PATIENCE_S = 5.0
# Python specializes what has been called eight times, when it is called again.
_TIMES = 10


def rehearsed(scratch: str, watch: FileWatch) -> None:
    """This process has rehearsed in the directory ``scratch``, and the caller is no more; or it is the caller, as it was before."""
    mine, its = socket.socketpair()
    me = os.getpid()
    with mine, its:
        if not (pid := os.fork()):
            mine.close()
            _become(me, its, scratch, watch)
            return
        its.close()
        with suppress(ProcessLookupError), OwnedFd(os.pidfd_open(pid)) as understudy:
            if select([mine], [], [], _PATIENCE_S)[0] and mine.recv(1):
                # From here on it is to live: whoever ends us would take the socket's name away.
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                mine.send(b"\n")
                os._exit(0)
            signal.pidfd_send_signal(understudy.fileno(), signal.SIGKILL)


def _become(template: int, told: socket.socket, scratch: str, watch: FileWatch) -> None:
    try:
        set_parent_death_signal(signal.SIGKILL)
        with _as_before():
            _rehearse(template, scratch, watch)
        # fork(2) takes the calling thread alone; what another one holds at that moment is held for ever in the child.
        while len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.001)
        set_parent_death_signal(0)
        told.send(b"\n")
        # Nothing comes when the caller has ended meanwhile, and taken the name of the socket with it.
        if told.recv(1):
            return
    except (OSError, ShimError):
        pass  # there is not what it takes
    except Exception:  # noqa: BLE001 - in the log of the template, as its own
        traceback.print_exc()
    os._exit(1)


def _rehearse(template: int, scratch: str, watch: FileWatch) -> None:
    own = Surroundings.of(os.getpid())
    with recorded() as hot:
        rehearse(template, scratch, own, watch, whole_life)
    put_together(hot)
    for _ in range(_TIMES):
        rehearse(template, scratch, own, watch, whole_life)


@contextmanager
def _as_before() -> Iterator[None]:
    """What the body changes of a template is afterwards as it was: signals that it handles, environment, stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD)}
    environment, errors = dict(os.environb), os.dup(2)
    for number in handlers:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environb.update(environment)
        os.dup2(errors, 2)
        os.close(errors)
