"""A plugin as a plain process of this host, as go-plugin itself starts one.

The plugin has our environment and working directory, and /dev/null as its stdin. It is not killed when we are: another
process may attach to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING

from shim import _native
from shim.errors import FailedPrecondition, InvalidArgument, from_os_error
from shim.linux.fd import OwnedFd, pipe
from shim.plugin.local_process import LocalProcess
from shim.process import encoded
from shim.process.reaper import which
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LocalRunner"]


class LocalRunner:
    """A ``Runner`` of the program ``argv``."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], *, inherit_env: bool = True, sha256: str = ""
    ) -> None:
        """``env`` comes on top of our own environment, or alone without ``inherit_env``.

        A program with another SHA-256 than ``sha256`` (in hexadecimal) is not started. Who may write to the file can
        still change it after it was looked at.
        """
        self._argv = list(argv)
        self._sha256 = sha256.lower().removeprefix("sha256:")
        self._env = {**(os.environ if inherit_env else {}), **env}
        self._process: LocalProcess | None = None
        self._pipes: list[asyncio.BaseTransport] = []
        self._readers: list[asyncio.StreamReader] = []

    @property
    def name(self) -> str:
        """The program."""
        return self._argv[0]

    @property
    def id(self) -> str:
        """The pid; empty before the start."""
        return "" if self._process is None else self._process.id

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Its descriptor 1."""
        self._started()
        return self._readers[0]

    @property
    def stderr(self) -> asyncio.StreamReader:
        """Its descriptor 2."""
        self._started()
        return self._readers[1]

    async def start(self) -> None:
        """The program runs.

        Raises:
            NotFound: there is no such program.
            FailedPrecondition: it has another checksum.
            ShimError: it cannot be started.
        """
        what = f"plugin {self.name} cannot be started"
        try:
            await self._verify(what)
            with ExitStack() as ours:
                null = ours.enter_context(OwnedFd(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)))
                out, out_end = map(ours.enter_context, pipe())
                err, err_end = map(ours.enter_context, pipe())
                await self._connect(out, err)
                self._process = self._spawn([null.fileno(), out_end.fileno(), err_end.fileno()])
        except (OSError, ValueError) as error:
            self._close_pipes()
            if isinstance(error, OSError):
                raise from_os_error(error, what) from error
            raise InvalidArgument(f"{what}: {error}") from error

    async def wait(self) -> int:
        """The exit status, 128 + n for signal n."""
        return await self._started().wait()

    async def kill(self) -> None:
        """SIGKILL; it is reaped, and its output closed, whoever else may hold that."""
        if self._process is not None:
            await self._process.kill()
            self._close_pipes()

    def detach(self) -> None:
        """The plugin is no longer ours: its output goes to nobody, and a Go program that then writes to it is killed."""
        if self._process is not None:
            self._close_pipes()
            self._process.detach()

    def diagnose(self) -> str:
        """The command, and how it ended."""
        if self._process is None:
            how = "was not started"
        elif (ended := self._process.exit) is None:
            how = "is running"
        else:
            how = f"exited {ended.status}" if ended.signal is None else f"was ended by signal {ended.signal}"
        return f"the command {shlex.join(self._argv)} {how}"

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """The same: both see the same files and ports."""
        return network, address

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """The same."""
        return network, address

    def _started(self) -> LocalProcess:
        if self._process is None:
            raise FailedPrecondition(f"plugin {self.name} has not been started")
        return self._process

    async def _verify(self, what: str) -> None:
        if not self._sha256:
            return
        found = await in_thread(_sha256_of, which(self._argv[0]))
        if not hmac.compare_digest(found, self._sha256):
            raise FailedPrecondition(f"{what}: its checksum is sha256:{found}, not sha256:{self._sha256}")

    async def _connect(self, *ends: OwnedFd) -> None:
        loop = asyncio.get_running_loop()
        for end in ends:
            reader = asyncio.StreamReader(loop=loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
            file = os.fdopen(end.detach(), "rb", buffering=0)
            transport, _ = await loop.connect_read_pipe(lambda protocol=protocol: protocol, file)  # type: ignore[misc]
            self._pipes.append(transport)
            self._readers.append(reader)

    def _spawn(self, fds: list[int]) -> LocalProcess:
        argv = [os.fsencode(which(self._argv[0])), *map(os.fsencode, self._argv[1:])]
        pid, pidfd = _native.spawn(argv, encoded(self._env), fds)
        return LocalProcess(pid, OwnedFd(pidfd))

    def _close_pipes(self) -> None:
        for transport in self._pipes:
            transport.close()


def _sha256_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
