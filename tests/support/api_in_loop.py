"""The gRPC API served in the loop of a test, with a client, over containers in groups of their own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from support.shims import CgroupParent

from shim.client import Client, Event
from shim.config import Config
from shim.containers.containers import Containers
from shim.grpc_api.server import ApiServer


@dataclass
class ApiInLoop:
    """``server`` may be ended and made anew; ``client`` finds the new one."""

    config: Config
    server: ApiServer
    client: Client
    socket: Path

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    async def restart(self) -> None:
        """Another one, with all that a new process would have to read from disk."""
        await self.server.stop(0)
        await self.start()

    async def start(self) -> None:
        self.server = ApiServer(self.config)
        await self.server.start(self.socket)

    async def ocishim(self, *words: str | Path) -> str:
        """What the command line prints."""
        file = f"{self.config.data_root}/config.toml"
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "shim", "--config", file, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def events(self, last: str, *, after: int | None = 0, container: str = "") -> list[Event]:
        """From the one after ``after`` to the first of type ``last``, of ``container`` alone if one is given."""
        found = []
        async with aclosing(self.client.events(after=after)) as stream:
            async for _, event in stream:
                if not container or event.id == container:
                    found.append(event)
                    if event.type == last:
                        break
        return found

    async def all_events(self) -> list[Event]:
        """Those that are kept."""
        log = self.server._log
        async with aclosing(self.client.events(after=log.first - 1)) as stream:
            return [(await anext(stream)).event for _ in range(log.first, log.last + 1)]


async def translated(client: Client, call) -> None:
    """What ``call``, a stream with any metadata, fails with at once, as the client's own streams would."""
    with client._translating():
        await call.read()


@asynccontextmanager
async def serving(state_root: Path, data_root: Path) -> AsyncIterator[ApiInLoop]:
    """Nothing is left of it in ``state_root``, whatever the test has left running."""
    cgroups = CgroupParent()
    config = Config(state_root=str(state_root), data_root=str(data_root), cgroup_parent=cgroups.path)
    (data_root / "config.toml").write_text(
        f'state_root = "{state_root}"\ndata_root = "{data_root}"\ncgroup_parent = "{cgroups.path}"\n'
    )
    socket = state_root / "grpc.sock"
    async with Client(f"unix://{socket}", timeout_s=30) as client:
        api = ApiInLoop(config, ApiServer(config), client, socket)
        await api.server.start(socket)
        try:
            yield api
        finally:
            # Not after the end of the server: what shims could not tell is left for the next one.
            for name in Containers(str(state_root)).ids():
                with suppress(AssertionError):  # it goes by itself, when its end was told
                    await api.ocishim("delete", "--force", name)
            await api.server.stop(5)
            assert Containers(str(state_root)).ids() == []
            cgroups.remove()
