"""A loop with a reaper for each test, and a container to do things to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
from support.coroutines import reaping

from shim.config import Config
from shim.errors import ShimError
from shim.process import AdoptionWindow, Child, Reaper
from shim.runtime import Driver, driver_for

T = TypeVar("T")
DEADLINE_S = 60


@pytest.fixture
def run() -> Callable[[Callable[[Reaper], Awaitable[T]]], T]:
    """``run(body)`` awaits ``body(reaper)``; afterwards no child may be left."""

    def go(body: Callable[[Reaper], Awaitable[T]]) -> T:
        async def main() -> T:
            async with reaping() as reaper:
                return await asyncio.wait_for(body(reaper), DEADLINE_S)

        return asyncio.run(main())

    return go


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """``script("sleep 100")`` is the path of an executable shell script."""

    def make(body: str, name: str = "fake") -> str:
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
        return str(file)

    return make


class Playground:
    """A driver below a state root, and containers of it whose output goes to a file."""

    def __init__(self, reaper: Reaper, driver: Driver, folder: Path) -> None:
        self.reaper = reaper
        self.driver = driver
        self.folder = folder
        self.out = folder / "out"
        self.children: list[Child] = []

    async def create(self, name: str, bundle: Path, console_socket: str | None = None) -> Child:
        pid_file = self.folder / f"{name}.pid"
        with self.reaper.window() as window, self.stdio() as fds:
            await self.driver.create(
                name, str(bundle), stdio_fds=fds, pid_file=str(pid_file), console_socket=console_socket
            )
            return self._adopted(window, pid_file)

    async def exec(
        self, name: str, process: bytes, console_socket: str | None = None
    ) -> tuple[Child, int | None]:
        pid_file = self.folder / "exec.pid"
        with self.reaper.window() as window, self.stdio() as fds:
            inner = await self.driver.exec(
                name,
                process,
                stdio_fds=fds,
                pid_file=str(pid_file),
                console_socket=console_socket,
            )
            return self._adopted(window, pid_file), inner

    async def printed(self, text: str) -> None:
        """The containers have printed ``text``; waits for it."""
        while text not in self.out.read_text():  # noqa: ASYNC110  # a file tells nobody when it grows
            await asyncio.sleep(0.005)

    def _adopted(self, window: AdoptionWindow, pid_file: Path) -> Child:
        child = window.adopt(int(pid_file.read_text()))
        self.children.append(child)
        return child

    def stdio(self) -> Stdio:
        return Stdio(self.out)


class Stdio:
    def __init__(self, out: Path) -> None:
        self._out = out

    def __enter__(self) -> tuple[int, int, int]:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        out = os.open(self._out, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._fds = (null, out, out)
        return self._fds

    def __exit__(self, *_: object) -> None:
        for fd in set(self._fds):
            os.close(fd)


@pytest.fixture
def bundle(bundle):
    """As everywhere, with a cgroup that no other run of these tests on this machine uses."""
    numbers = count()

    def make(args: list[str], **changes: object) -> Path:
        changes["linux"] = {
            "cgroupsPath": f"/ocishim-test-{os.getpid()}-{next(numbers)}",
            **changes.get("linux", {}),
        }
        return bundle(args, **changes)

    return make


@pytest.fixture
def playground(run, state_root: Path, tmp_path: Path):
    """``playground(runtime, body)`` awaits ``body(playground)``; containers that it leaves are deleted."""

    @asynccontextmanager
    async def opened(runtime: str, reaper: Reaper):
        config = Config(state_root=str(state_root), runtime=runtime, runtime_timeout=20)
        driver = await driver_for(config, "tests", reaper)
        here = Playground(reaper, driver, tmp_path)
        try:
            yield here
        finally:
            for child in here.children:
                child.close()
            for state in await driver.list():
                with suppress(ShimError):
                    await driver.delete(state["id"], force=True)

    def go(runtime: str, body: Callable[[Playground], Awaitable[T]]) -> T:
        async def main(reaper: Reaper) -> T:
            async with opened(runtime, reaper) as here:
                return await body(here)

        return run(main)

    return go
