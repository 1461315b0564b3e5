"""One call of an OCI runtime: started, watched, bounded in time and memory, cleaned up.

* **Log.** Every call has a log of its own, so that concurrent calls cannot read each other's errors. It is a file in
  memory, descriptor ``LOG_FD`` of the child: a full or read-only disk cannot hide the error text, and nothing has to be
  removed. runsc's sandbox keeps it open for life and a container could make it log for ever, so the file is
  sealed against growth when the call is over. (A pipe was rejected: a late writer in crun's init would die of SIGPIPE.)
* **File.** What a call reads is a file in memory, too, descriptor ``FILE_FD`` of the child.
* **Standard streams.** With ``fds`` they are the container's and become its init's. All three runtimes then print
  their error on the container's stderr as well as in the log: the bytes of a failed ``create`` or ``exec``
  in that stream are never the container's, and a caller that starts to copy after success can drop them.
* **Environment.** That of the shim without NOTIFY_SOCKET, which would make runc talk to the shim's systemd.
* **Parent death.** The child gets SIGKILL when the *thread* that started it ends: this must be the loop's thread.
* **Session.** A terminal's Ctrl-C never reaches the child: it leads a session of its own, unless we lead one, as a shim
  does, whose session has no terminal. There it stays, because the scheduler groups by session, and a new group begins at
  the end of the queue: on a busy machine that made a call take twice as long (sched(7), autogroups).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import DeadlineExceeded, from_os_error
from shim.linux.memfd import forbid_growth, memfd_create
from shim.process import encoded
from shim.runtime.capture import Capture
from shim.runtime.logs import last_words, records
from shim.runtime.tree import kill_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.linux.fd import OwnedFd
    from shim.process import Child, Exit, Reaper

__all__ = ["FILE_PATH", "LOG_PATH", "Result", "StdioFds", "run"]

_log = logging.getLogger(__name__)

LOG_FD = 3
LOG_PATH = f"/proc/self/fd/{LOG_FD}"
FILE_FD = 4
FILE_PATH = f"/proc/self/fd/{FILE_FD}"

_STDOUT_BYTES = 16 << 20
_STDERR_BYTES = 32 << 10
_LOG_BYTES = 256 << 10

# How long a process may take to disappear after SIGKILL; longer when it sits in an uninterruptible system call.
_KILL_S = 2.0

_LEVELS = {"warning": logging.WARNING, "error": logging.DEBUG}

StdioFds = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Result:
    """How a call ended and what it said. ``errors`` are the error-level messages of its log, in order."""

    exit: Exit
    stdout: bytes
    stderr: bytes
    errors: tuple[str, ...]

    @property
    def message(self) -> str:
        """The last error of the log, else of standard error; one line, empty when it said nothing."""
        return self.errors[-1] if self.errors else last_words(self.stderr)


async def run(
    reaper: Reaper,
    argv: Sequence[str],
    *,
    name: str,
    timeout: float | None,  # noqa: ASYNC109  # the deadline is this function's purpose: it kills
    fds: StdioFds | None = None,
    stdin: bytes = b"",
    file: bytes | None = None,
    env: Sequence[bytes] | None = None,
) -> Result:
    """Run ``argv`` to its end and return how it ended, whatever its exit code.

    ``name`` is what errors call it. ``env`` is an ``environment``, by default that of now. ``fds`` stay the
    caller's, and with them ``file`` is what is at ``FILE_PATH``; without them ``stdin`` is fed and the output captured.
    When it takes longer than ``timeout`` seconds, or the caller is cancelled, it is killed with all it has started.

    Raises:
        NotFound: the program does not exist (any more).
        DeadlineExceeded: it had to be killed.
        ShimError: it could not be started.
    """
    _log.debug("%s: %s", name, argv)
    try:
        if env is None:
            env = environment()
        if fds is not None:
            return await _run_on(reaper, argv, env, name, timeout, fds, file)
        return await _run_captured(reaper, argv, env, name, timeout, stdin)
    except OSError as error:
        raise from_os_error(error, f"{name}: cannot run {argv[0]}") from error


async def _run_on(
    reaper: Reaper,
    argv: Sequence[str],
    env: Sequence[bytes],
    name: str,
    limit_s: float | None,
    fds: StdioFds,
    file: bytes | None,
) -> Result:
    with ExitStack() as stack:
        log = stack.enter_context(memfd_create("runtime-log"))
        given = [*fds, log.fileno()]
        if file is not None:
            given.append(stack.enter_context(memfd_create("runtime-file", file)).fileno())
        child = _spawn(reaper, argv, env, given)
        ended = await _end_of(child, name, limit_s)
        return Result(ended, b"", b"", _errors(log, name))


async def _run_captured(
    reaper: Reaper,
    argv: Sequence[str],
    env: Sequence[bytes],
    name: str,
    limit_s: float | None,
    stdin: bytes,
) -> Result:
    with ExitStack() as stack:
        log = stack.enter_context(memfd_create("runtime-log"))
        source = stack.enter_context(memfd_create("runtime-stdin", stdin))
        stdout = stack.enter_context(Capture(head=_STDOUT_BYTES))
        stderr = stack.enter_context(Capture(head=_STDERR_BYTES, tail=_STDERR_BYTES))
        given = [fd.fileno() for fd in (source, stdout.sink, stderr.sink, log)]
        child = _spawn(reaper, argv, env, given)
        stdout.sink.close()
        stderr.sink.close()
        ended = await _end_of(child, name, limit_s)
        return Result(ended, stdout.finish(), stderr.finish(), _errors(log, name))


def environment(**over: str) -> list[bytes]:
    """Ours as a runtime gets it, with ``over``; worth keeping for further calls."""
    ours = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    return encoded({**ours, **over})


def _spawn(reaper: Reaper, argv: Sequence[str], env: Sequence[bytes], fds: Sequence[int]) -> Child:
    leads = os.getsid(0) == os.getpid()
    return reaper.spawn(argv, fds=fds, env=env, pdeathsig=signal.SIGKILL, setsid=not leads)


async def _end_of(child: Child, name: str, timeout: float | None) -> Exit:  # noqa: ASYNC109  # as in run
    try:
        async with asyncio.timeout(timeout):
            return await child.wait()
    except TimeoutError:
        await _kill(child, name)
        raise DeadlineExceeded(f"{name} did not end within {timeout:g} s and was killed") from None
    except asyncio.CancelledError:
        await _kill(child, name)
        raise
    finally:
        child.close()


async def _kill(child: Child, name: str) -> None:
    kill_tree(child.pid)
    try:
        async with asyncio.timeout(_KILL_S):
            await child.wait()
    except TimeoutError:
        _log.warning("%s (pid %d) does not die: it is stuck in the kernel", name, child.pid)


def _errors(log: OwnedFd, name: str) -> tuple[str, ...]:
    forbid_growth(log)
    size = os.fstat(log.fileno()).st_size
    if not size:
        return ()
    found = records(os.pread(log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES)))
    for record in found:
        _log.log(_LEVELS.get(record.level, logging.DEBUG), "%s: %s", name, record.message)
    return tuple(r.message for r in found if r.level == "error")
