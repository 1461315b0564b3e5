"""The streams of a process in a container, from the client's side: FIFOs, opened as asyncio streams.

The shim keeps a descriptor of its own on the other side of each, so a client may go and another one come: what the
process writes meanwhile waits in the FIFO, and so does the process when that is full. Two clients at once would each get
a part of the output.

Man page: fifo(7).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import NotFound, from_os_error

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Fifos", "IOStream"]

_NAMES = ("stdin", "stdout", "stderr")


@dataclass(frozen=True, slots=True)
class IOStream:
    """The streams of one process; ``close`` leaves the process alone."""

    stdin: asyncio.StreamWriter | None
    """None where the process has none."""
    stdout: asyncio.StreamReader
    """Ends when the process and all that it gave its output to have ended."""
    stderr: asyncio.StreamReader | None
    """None with a terminal, which has one output."""
    transports: tuple[asyncio.BaseTransport, ...] = ()

    def close(self) -> None:
        """Nothing is open any more. What was not read stays for the next one."""
        for transport in self.transports:
            transport.close()


class Fifos:
    """Those of one process, in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self, *, stdin: bool, stderr: bool) -> tuple[str, str, str]:
        """They exist; returns the paths of stdin, stdout and stderr, empty for what there is not.

        Raises:
            ShimError: they cannot be made; nothing is left.
        """
        wanted = {"stdin": stdin, "stdout": True, "stderr": stderr}
        try:
            self._directory.mkdir(mode=0o700, parents=True)
            for name in _NAMES:
                if wanted[name]:
                    os.mkfifo(self._directory / name, 0o600)
        except OSError as error:
            self.remove()
            raise from_os_error(error, f"the FIFOs in {self._directory} cannot be made") from error
        stdin_path, stdout_path, stderr_path = (
            str(self._directory / name) if wanted[name] else "" for name in _NAMES
        )
        return stdin_path, stdout_path, stderr_path

    def remove(self) -> None:
        """They are gone; for whoever has one open nothing changes."""
        shutil.rmtree(self._directory, ignore_errors=True)

    async def open(self) -> IOStream:
        """Our ends of them; the caller closes them.

        Raises:
            NotFound: there are none.
            ShimError: they cannot be opened.
        """
        transports: list[asyncio.BaseTransport] = []
        try:
            if (stdout := await self._read("stdout", transports)) is None:
                raise NotFound(f"there is no process whose streams are in {self._directory}")
            stderr = await self._read("stderr", transports)
            stdin = await self._write("stdin", transports)
        except OSError as error:
            for transport in transports:
                transport.close()
            raise from_os_error(error, f"the FIFOs in {self._directory} cannot be opened") from error
        return IOStream(stdin, stdout, stderr, tuple(transports))

    async def _read(self, name: str, transports: list[asyncio.BaseTransport]) -> asyncio.StreamReader | None:
        if (fd := self._open(name, os.O_RDONLY)) is None:
            return None
        # poll(2) reports the end to nobody who came after the last writer had gone, unless one came and went since.
        if (writer := self._open(name, os.O_WRONLY)) is not None:
            os.close(writer)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        pipe = os.fdopen(fd, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), pipe
        )
        transports.append(transport)
        return reader

    async def _write(self, name: str, transports: list[asyncio.BaseTransport]) -> asyncio.StreamWriter | None:
        # With O_NONBLOCK alone it would fail while the shim has no reader; the first of the two is only for that.
        if (keeper := self._open(name, os.O_RDWR)) is None:
            return None
        try:
            fd = self._open(name, os.O_WRONLY)
        finally:
            os.close(keeper)
        assert fd is not None  # noqa: S101 - for the type checker
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(fd, "wb", buffering=0)
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=loop), pipe
        )
        transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, loop)

    def _open(self, name: str, flags: int) -> int | None:
        with suppress(FileNotFoundError):
            return os.open(self._directory / name, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        return None
