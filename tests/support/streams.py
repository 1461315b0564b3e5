"""A rig to run processes on the streams of a shim: the test plays the client and the OCI runtime."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from support.coroutines import reaping

from shim.linux.fd import OwnedFd
from shim.process import Child, Reaper
from shim.stdio import Copier, IOSettings, ProcessIO, Streams
from shim.stdio.readiness import readable


class Rig:
    """What the processes of a shim share, and the folder of a client."""

    def __init__(self, folder: Path, consoles: Path, reaper: Reaper) -> None:
        self.folder = folder
        self.consoles = consoles
        self.reaper = reaper
        self.copier = Copier()
        self.made: list[ProcessIO] = []
        self.children: list[Child] = []

    def io(self, streams: Streams, *, name: str = "box", **settings: object) -> ProcessIO:
        # Long enough for any machine; a test that wants to see the end of its patience says so.
        known = {"namespace": "tests", "drain_timeout_s": 20.0, "console_parent": str(self.consoles)}
        own = IOSettings(container_id="box", **known | settings)
        io = ProcessIO(name, streams, own, self.copier, self.reaper)
        self.made.append(io)
        return io

    def fifo(self, name: str) -> str:
        path = self.folder / name
        os.mkfifo(path)
        return str(path)

    def script(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def spawn(self, argv: list[str], fds: tuple[int, ...]) -> Child:
        child = self.reaper.spawn(argv, fds=fds)
        self.children.append(child)
        return child

    async def run(self, io: ProcessIO, script: str) -> Child:
        """A shell that does ``script`` on the streams, which are copied."""
        await io.open()
        child = self.spawn(["sh", "-c", script], io.runtime_fds)
        await io.started()
        return child

    async def run_on_terminal(self, io: ProcessIO, script: str) -> Child:
        """The same with a terminal, which is sent as an OCI runtime sends it."""
        await io.open()
        master, slave = (OwnedFd(fd) for fd in os.openpty())
        with master, slave:
            send_fds(io, master.fileno())
            child = self.spawn(["setsid", "-c", "sh", "-c", script], (slave.fileno(),) * 3)
        await io.started()
        return child

    async def end(self) -> None:
        for io in self.made:
            await io.close()
        for child in self.children:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
        self.copier.close()


def relay_threads() -> int:
    """How many threads of relays this process has; others, grpc's for one, come and go."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):  # ended in between
            continue
    return names.count("ocishim-relay")


def send_fds(io: ProcessIO, *fds: int) -> None:
    """One message with these descriptors over the console socket, then the end."""
    with socket.socket(socket.AF_UNIX) as runtime:
        runtime.connect(io.console_socket)
        socket.send_fds(runtime, [b"/dev/ptmx"], fds)


def client_reads(path: str) -> OwnedFd:
    return OwnedFd(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def client_writes(path: str) -> OwnedFd:
    """Only once the shim has opened its end."""
    return OwnedFd(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def rest_of(fd: OwnedFd) -> bytes:
    """What a FIFO holds whose writers have all closed it; an end that came before ``fd`` was opened shows in read(2) alone."""
    return b"".join(iter(lambda: os.read(fd.fileno(), 1 << 20), b""))


async def take(fd: OwnedFd, size: int) -> bytes:
    """The next ``size`` bytes; fewer at the end."""
    data = bytearray()
    while len(data) < size:
        await readable(fd.fileno())
        chunk = os.read(fd.fileno(), min(size - len(data), 1 << 20))
        if not chunk:
            break
        data += chunk
    return bytes(data)


async def take_all(fd: OwnedFd) -> bytes:
    """Everything up to the end."""
    return await take(fd, 1 << 40)


@asynccontextmanager
async def rigged(folder: Path, consoles: Path) -> AsyncIterator[Rig]:
    """A rig whose streams and processes end with the test."""
    async with reaping() as reaper:
        rig = Rig(folder, consoles, reaper)
        try:
            yield rig
        finally:
            await rig.end()
