"""Who runs a plugin: a container, a plain process, or what somebody else makes of it.

go-plugin splits what it needs from that into two parts, and so do we. A ``Runner`` starts the plugin and holds its output;
an ``AttachedRunner`` is what is left of it for another process that finds the plugin running. The paths of sockets are not
the same on both sides of a container, so a runner also translates them.

Source: hashicorp/go-plugin, package runner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import asyncio

__all__ = ["AttachedRunner", "Runner", "RunnerFactory"]


class AttachedRunner(Protocol):
    """A plugin that runs, whoever started it."""

    @property
    def id(self) -> str:
        """What finds the plugin again: a container's id, a pid; empty before ``start``."""

    async def wait(self) -> int:
        """The exit status, once it has ended; 128 + n for one that signal n killed. Any number of tasks may wait."""

    async def kill(self) -> None:
        """It has ended, and what belonged to it is gone; nothing happens when that is so already."""

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        """What the host has to dial to reach ``address``, at which the plugin says it listens.

        Raises:
            InvalidArgument: the host cannot reach it there.
        """

    def host_to_plugin(self, network: str, address: str) -> tuple[str, str]:
        """What the plugin has to dial to reach ``address``, at which the host listens.

        Raises:
            InvalidArgument: the plugin cannot reach it there.
        """


class Runner(AttachedRunner, Protocol):
    """A plugin that this process starts."""

    @property
    def name(self) -> str:
        """What a log calls it: an image, a program."""

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What it writes to descriptor 1, the handshake line first; there once ``start`` has returned."""

    @property
    def stderr(self) -> asyncio.StreamReader:
        """What it writes to descriptor 2, its log; there once ``start`` has returned."""

    async def start(self) -> None:
        """The plugin runs.

        Raises:
            ShimError: it does not, and nothing of it is left.
        """

    def diagnose(self) -> str:
        """What may explain that it does not work as it should: how it was started, how it ended. May be empty."""


# Makes a runner that is not started yet, out of the variables that go-plugin wants in the plugin's environment (what else
# is in it is the runner's affair) and the folder on the host in which both sides keep their sockets. PLUGIN_UNIX_SOCKET_DIR
# and TMPDIR name that folder as the host sees it; a runner whose plugin sees it elsewhere overrides them.
RunnerFactory: TypeAlias = Callable[[Mapping[str, str], str], Runner]
