"""A plugin as a plain process of this host, as go-plugin itself starts one.

The plugin has our environment and working directory, and /dev/null as its stdin. It is not killed when we are: another
process may attach to it.

Man pages: kill(2), pidfd_open(2).
"""

from __future__ import annotations

import asyncio
import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, from_os_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LocalRunner"]


class LocalRunner:
    """A ``Runner`` of the program ``argv``."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, inherit_env: bool = True) -> None:
        """``env`` comes on top of our own environment, or alone without ``inherit_env``."""
        self._argv = list(argv)
        self._env = {**(os.environ if inherit_env else {}), **env}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        """The program."""
        return self._argv[0]

    @property
    def id(self) -> str:
        """The pid; empty before the start."""
        return "" if self._process is None else str(self._process.pid)

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Its descriptor 1."""
        stream = self._started().stdout
        assert stream is not None  # noqa: S101 - it was started with a pipe
        return stream

    @property
    def stderr(self) -> asyncio.StreamReader:
        """Its descriptor 2."""
        stream = self._started().stderr
        assert stream is not None  # noqa: S101 - it was started with a pipe
        return stream

    async def start(self) -> None:
        """The program runs.

        Raises:
            ShimError: it cannot be started.
        """
        pipe = asyncio.subprocess.PIPE
        null = asyncio.subprocess.DEVNULL
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, env=self._env, stdin=null, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            raise from_os_error(error, f"plugin {self.name} cannot be started") from error

    async def wait(self) -> int:
        """The exit status, 128 + n for signal n."""
        status = await self._started().wait()
        return 128 - status if status < 0 else status

    async def kill(self) -> None:
        """SIGKILL, and it is reaped."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def diagnose(self) -> str:
        """The command, and how it ended."""
        status = None if self._process is None else self._process.returncode
        how = (
            "is running"
            if status is None
            else f"ended by signal {-status}"
            if status < 0
            else f"exited {status}"
        )
        return f"command {shlex.join(self._argv)} {how}"

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """The same: both see the same files and ports."""
        return network, address

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """The same."""
        return network, address

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise FailedPrecondition(f"plugin {self.name} has not been started")
        return self._process
