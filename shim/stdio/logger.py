"""A ``binary://`` logger: a program that gets a container's stdout and stderr as its descriptors 3 and 4.

The container writes into the logger's pipes directly, without a copy of ours. We keep the write ends until the container
is deleted: the logger outlives a container that closes its streams, and gets its end of file at delete. It then has time
to write down what it has not read yet, as SIGTERM ends most programs on the spot; only what does not end by itself gets
the signal. All of that stays below the 10 s that CRI gives to a delete (containerd waits 12 s for the logger alone).

Source: containerd core/runtime/v2/logging; stdio of binary loggers. Man page: proc_pid_stat(5).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import DeadlineExceeded, Unknown, from_os_error
from shim.linux.fd import OwnedFd, pipe
from shim.stdio.readiness import readable

if TYPE_CHECKING:
    from shim.process import Child, Reaper
    from shim.stdio.uri import Logger

__all__ = ["LoggerProcess"]

_log = logging.getLogger(__name__)

_TERM_TO_KILL_S = 5.0
_KILL_S = 1.0
_PF_EXITING = 0x4


class LoggerProcess:
    """A running logger. Owns the write ends of its pipes and the process until ``close``."""

    def __init__(self, logger: Logger, child: Child, stdout: OwnedFd, stderr: OwnedFd) -> None:
        self._logger = logger
        self._child = child
        self.stdout = stdout
        self.stderr = stderr

    @classmethod
    async def start(
        cls, logger: Logger, reaper: Reaper, env: dict[str, str], timeout_s: float
    ) -> LoggerProcess:
        """The logger, once it has said that it is ready.

        Raises:
            DeadlineExceeded: it did not within ``timeout_s``; it is killed.
            Unknown: it failed, or (binary-v2) closed its ready pipe without a byte.
            ShimError: it cannot be started.
        """
        with ExitStack() as held:
            stdout, stdout_sink, stderr, stderr_sink, ready, ready_sink = (
                held.enter_context(end) for _ in range(3) for end in pipe()
            )
            null = held.enter_context(OwnedFd(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)))
            theirs = (null, null, null, stdout, stderr, ready_sink)
            child = _spawn(logger, reaper, env, [fd.fileno() for fd in theirs])
            for fd in theirs:
                fd.close()
            process = cls(logger, child, OwnedFd(stdout_sink.detach()), OwnedFd(stderr_sink.detach()))
            try:
                await process._wait_ready(ready, timeout_s)
            except BaseException:
                await process.close(eof_to_term_s=0, term_to_kill_s=0)
                raise
            return process

    async def close(self, *, eof_to_term_s: float, term_to_kill_s: float = _TERM_TO_KILL_S) -> None:
        """End of file, then SIGTERM, then SIGKILL, until the logger has ended; SIGKILL at once when cancelled."""
        self.stdout.close()
        self.stderr.close()
        try:
            if await self._ends_within(eof_to_term_s):
                return
            self._signal(signal.SIGTERM)
            if await self._ends_within(term_to_kill_s):
                return
            self._signal(signal.SIGKILL)
            if not await self._ends_within(_KILL_S):
                _log.warning("logger %s (pid %d) is stuck in the kernel", self._logger.path, self._child.pid)
        finally:
            self._signal(signal.SIGKILL)
            self._child.close()

    async def _wait_ready(self, ready: OwnedFd, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await readable(ready.fileno())
        except TimeoutError:
            raise DeadlineExceeded(
                f"logger {self._logger.path} was not ready within {timeout_s:g} s"
            ) from None
        if os.read(ready.fileno(), 1):
            return
        # The end of the pipe alone counts as ready for binary://, but not when it is the end of a failed process.
        if _is_exiting(self._child):
            await self._ends_within(timeout_s)
        ended = self._child.exit
        if ended is not None and ended.status:
            raise Unknown(f"logger {self._logger.path} ended with status {ended.status} before it was ready")
        if self._logger.strict:
            raise Unknown(f"logging binary did not call ready ({self._logger.path})")

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._child.send_signal(number)

    async def _ends_within(self, timeout_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._child.wait()
        return self._child.exit is not None


def _spawn(logger: Logger, reaper: Reaper, env: dict[str, str], fds: list[int]) -> Child:
    try:
        return reaper.spawn([logger.path, *logger.args], fds=fds, env=env)
    except OSError as error:
        raise from_os_error(error, f"logger {logger.path} cannot be started") from error


def _is_exiting(child: Child) -> bool:
    """Whether the process is past the point where exit(2) closes its descriptors; its end then follows at once.

    Without this, the end of the ready pipe would have to be followed by a wait for an exit that may never come.
    """
    if child.exit is not None:
        return False
    # The second field, the name, may hold anything; the ninth is the flags.
    stat = Path("/proc", str(child.pid), "stat").read_text(encoding="utf-8", errors="replace")
    return bool(int(stat.rpartition(")")[2].split()[6]) & _PF_EXITING)
