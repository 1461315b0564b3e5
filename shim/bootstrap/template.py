"""The template: a process that has imported all that a shim needs, and forks.

It listens before it imports, so that whoever comes meanwhile waits instead of importing the same. One fork is always made
ahead and waits for the next request itself. What it forks is its own child but never waited for: the kernel reaps it.

It ends when nobody has asked for a while, when a file that it has loaded is not what it was (another process with what is
there now begins then), or when somebody kills it, at whatever moment: a request that was not taken fails over to the
interpreter, one that was is none of its business any more.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from shim.bootstrap.listener import listen
from shim.errors import AlreadyExists
from shim.linux.fd import OwnedFd, pipe
from shim.linux.signals import reset_reserved

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from shim.linux.inotify import FileWatch

__all__ = ["main"]

_IDLE_S = 300.0
_BUSY_S = 0.05
_ENDING_S = 0.005


def main(path: str) -> int:
    """Serve launchers at ``path`` until it is time to end; returns the exit status."""
    began = time.time()
    _forget_starter()
    try:
        listener = listen(path)
    except AlreadyExists:
        return 0
    with _errors_to(f"{path}.log"), listener:
        try:
            stale = _serve(listener, began)
        finally:
            os.unlink(path)
    if stale and not os.fork():
        os.setsid()
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - ourselves, of another build
    return 0


def _forget_starter() -> None:
    """A session of our own, no mask, and the signals that matter to us."""
    with suppress(PermissionError):  # we lead a group already
        os.setsid()
    os.umask(0o077)
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    reset_reserved()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


@contextmanager
def _errors_to(log: str) -> Iterator[None]:
    """Stderr is the file ``log``, which is there afterwards if anything was said: that is a fault of ours."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 2)
    os.close(fd)
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(1) from error
    finally:
        if not os.stat(log).st_size:
            os.unlink(log)


def _end(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _serve(listener: socket.socket, began: float) -> bool:
    """Whether the files changed."""
    from shim.bootstrap.caller import leave_cgroups  # noqa: PLC0415 - all this takes long, and nobody waits for it
    from shim.bootstrap.preload import preload  # noqa: PLC0415
    from shim.bootstrap.understudy import rehearsed  # noqa: PLC0415

    leave_cgroups()
    watch, unchanged = _watch(began)
    if not unchanged:
        return True
    rehearsed(f"{listener.getsockname()}.rehearsal", watch)
    preload()
    cgroups = b""
    while True:
        with _fork(listener, watch, cgroups) as told:
            ready = _wait(told, watch)
            if watch.fileno() in ready or not ready:
                return bool(ready)
            cgroups = os.read(told.fileno(), 65536)
            if not cgroups:
                # One that ended before it had a request would be followed by others like it, for ever.
                return False
            _let_pass(told, listener)


def _wait(told: OwnedFd, watch: FileWatch) -> list[int]:
    return _readable([told, watch], _IDLE_S)


def _let_pass(told: OwnedFd, listener: socket.socket) -> None:
    """The request is done, and the launcher gone, or it takes long, or somebody else waits.

    Until then a fork would only take the processor from them.
    """
    if listener.fileno() not in _readable([told, listener], _BUSY_S):
        _readable([listener], _ENDING_S)


def _readable(files: list[OwnedFd | FileWatch | socket.socket], timeout_s: float) -> list[int]:
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return [fd for fd, _ in poll.poll(timeout_s * 1000)]


def _watch(began: float) -> tuple[FileWatch, bool]:
    """A watch on every file that was loaded, and whether none has changed since ``began``."""
    import shim.bootstrap.fork  # noqa: F401, PLC0415
    from shim.linux.inotify import FileWatch  # noqa: PLC0415

    files = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    watch = FileWatch(*sorted(files))
    now = time.time()
    return watch, not any(began <= os.stat(file).st_ctime <= now for file in files)


def _fork(listener: socket.socket, watch: FileWatch, cgroups: bytes) -> OwnedFd:
    """Readable once the new fork has a request, or has ended."""
    from shim.bootstrap.fork import wait_and_serve  # noqa: PLC0415

    mine, its = pipe()
    me = os.getpid()
    if os.fork():
        its.close()
        return mine
    try:
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        mine.close()
        wait_and_serve(me, listener, watch, its, cgroups)
    except BaseException:  # noqa: BLE001 - there is nobody else to see it
        traceback.print_exc()
    finally:
        os._exit(1)
