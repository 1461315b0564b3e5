"""A ``binary://`` logger: a program that gets a container's stdout and stderr as its descriptors 3 and 4.

The container writes into the logger's pipes directly, without a copy of ours. We keep the write ends until the container
is deleted: the logger outlives a container that closes its streams, and gets its end of file at delete.

Source: containerd core/runtime/v2/logging; stdio of binary loggers.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.errors import DeadlineExceeded, Unknown, from_os_error
from shim.linux.fd import OwnedFd, pipe

if TYPE_CHECKING:
    from shim.process import Child, Reaper
    from shim.stdio.uri import Logger

__all__ = ["LoggerProcess"]

_TERM_TO_KILL_S = 12.0


class LoggerProcess:
    """A running logger. Owns the write ends of its pipes and the process until ``close``."""

    def __init__(self, child: Child, stdout: OwnedFd, stderr: OwnedFd) -> None:
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
            Unknown: it ended, or (binary-v2) closed its ready pipe without a byte.
            ShimError: it cannot be started.
        """
        stdout_read, stdout_write = pipe()
        stderr_read, stderr_write = pipe()
        ready_read, ready_write = pipe()
        null = OwnedFd(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        with stdout_read, stderr_read, ready_write, null:
            fds = [null.fileno()] * 3 + [stdout_read.fileno(), stderr_read.fileno(), ready_write.fileno()]
            try:
                child = reaper.spawn([logger.path, *logger.args], fds=fds, env=env)
            except OSError as error:
                for fd in (stdout_write, stderr_write, ready_read):
                    fd.close()
                raise from_os_error(error, f"logger {logger.path} cannot be started") from error
        process = cls(child, stdout_write, stderr_write)
        with ready_read:
            try:
                await process._wait_ready(logger, ready_read, timeout_s)
            except BaseException:
                await process.close(term_to_kill_s=0)
                raise
        return process

    async def _wait_ready(self, logger: Logger, ready: OwnedFd, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(ready.fileno(), readable.set)
        try:
            async with asyncio.timeout(timeout_s):
                await readable.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"logger {logger.path} was not ready within {timeout_s:g} s") from None
        finally:
            loop.remove_reader(ready.fileno())
        if os.read(ready.fileno(), 1):
            return
        if logger.strict:
            raise Unknown(f"logging binary did not call ready ({logger.path})")
        # The end of the pipe alone counts as ready for binary://, but not when it is the end of the process.
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                ended = await self._child.wait()
                if ended.status != 0:
                    raise Unknown(
                        f"logger {logger.path} ended with status {ended.status} before it was ready"
                    )

    async def close(self, term_to_kill_s: float = _TERM_TO_KILL_S) -> None:
        """End of file, SIGTERM, then SIGKILL: the logger has ended after this."""
        self.stdout.close()
        self.stderr.close()
        with suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(term_to_kill_s):
                    await self._child.wait()
            except TimeoutError:
                self._child.send_signal(signal.SIGKILL)
                await self._child.wait()
        self._child.close()
