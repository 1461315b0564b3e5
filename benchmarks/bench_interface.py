"""A network interface for a sandbox that runs: the library's call beside ``ip`` doing the same.

20 sandboxes get 3 interfaces each, with an address.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile

import pytest

from shim.net import InterfaceConfig, parse_address
from shim.sandbox import SandboxConfig, create_sandbox, fetch_sandbox, list_sandboxes

SANDBOXES = 20
INTERFACES = 3


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def sandboxes(runner):
    """They run, without containers."""
    with tempfile.TemporaryDirectory(prefix="ocishim-bench-", dir="/run") as root:

        async def make():
            return [
                await create_sandbox(SandboxConfig(f"s{number}"), state_root=root)
                for number in range(SANDBOXES)
            ]

        async def remove():
            for status in await list_sandboxes(state_root=root):
                async with await fetch_sandbox(status.id, state_root=root) as sandbox:
                    await sandbox.stop()
                    await sandbox.delete()

        try:
            yield runner.run(make())
        finally:
            runner.run(remove())


class Library:
    """The call, in the process of whoever holds the sandboxes."""

    def __init__(self, runner, sandboxes) -> None:
        self._runner = runner
        self._sandboxes = sandboxes

    def add(self, number: int) -> None:
        config = InterfaceConfig(
            _name(number), peer_name=f"ocb{number}", addresses=(parse_address(_address(number)),)
        )
        self._runner.run(self._sandboxes[number % SANDBOXES].add_interface(config))

    def remove(self, number: int) -> None:
        self._runner.run(self._sandboxes[number % SANDBOXES].remove_interface(name=_name(number)))


class Commands:
    """``ip``, which needs four commands for one."""

    def __init__(self, sandboxes) -> None:
        self._paths = [str(sandbox.netns) for sandbox in sandboxes]

    def add(self, number: int) -> None:
        netns, name = self._paths[number % SANDBOXES], _name(number)
        for command in (
            f"ip link add ocb{number} type veth peer name {name} netns {netns}",
            f"nsenter --net={netns} ip address add {_address(number)} dev {name}",
            f"nsenter --net={netns} ip link set {name} up",
            f"ip link set ocb{number} up",
        ):
            subprocess.run(command.split(), check=True)

    def remove(self, number: int) -> None:
        subprocess.run(["ip", "link", "delete", f"ocb{number}"], check=True)


def _name(number: int) -> str:
    return f"n{number // SANDBOXES}"


def _address(number: int) -> str:
    return f"10.55.{number}.2/24"


@pytest.mark.benchmark(group="interface")
@pytest.mark.parametrize("how", ["library", "ip"])
def test_add_interface(benchmark, runner, sandboxes, how):
    peer = Library(runner, sandboxes) if how == "library" else Commands(sandboxes)
    numbers = iter(range(SANDBOXES * INTERFACES))
    benchmark.name = how
    try:
        # All stay until the end: the third is added beside two others.
        benchmark.pedantic(
            peer.add, setup=lambda: ((next(numbers),), {}), rounds=SANDBOXES * INTERFACES, iterations=1
        )
    finally:
        for number in range(SANDBOXES * INTERFACES - len(list(numbers))):
            peer.remove(number)
