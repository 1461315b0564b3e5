"""In a container: a plugin that can what a current go-plugin can, and Debian's cannot (see ``python_plugin``)."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable

import pytest
from support.plugin_containers import PYTHON_IMAGE
from support.plugins import Number, Text, call, config, serving

from shim.plugin import Config, PluginContainer
from shim.plugin.client import PluginClient
from shim.plugin.protocol.connection import Sinks
from shim.proto.plugin_stdio_pb2 import StdioData

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

GROUP = 4242
FOLDER = "/tmp/go-plugin-container"


@pytest.fixture
def client(python_image, settings, parent, tmp_path) -> Callable[..., PluginClient]:
    """Makes clients of the plugin, which is not started; its sockets are in ``tmp_path``."""

    def make(runtime: str, **changes) -> PluginClient:
        own = Config(
            image=PYTHON_IMAGE,
            sha256=python_image,
            cgroup_parent=parent,
            group_add=GROUP,
            runtime=runtime,
            disable_network=True,
        )
        given = {"auto_mtls": True, "group": str(GROUP), "temp_dir": str(tmp_path), **changes}
        return PluginClient(config(**given), PluginContainer.factory(own, settings))

    return make


async def ask_host(plugin: PluginClient, question: str) -> str:
    """What the plugin gets from us, whom it asks through the broker."""
    number = plugin.broker.next_id()
    shout = serving("ocishim.test.Host", {"Answer": str.upper})
    async with await plugin.broker.accept_and_serve(number, [shout]):
        return await call(plugin.channel, "AskHost", f"{number} {question}", Text)


async def echoed(plugin: PluginClient, text: str) -> str:
    """What a service answers that the plugin offers through the broker."""
    async with await plugin.broker.dial(await call(plugin.channel, "Offer", "", Number)) as channel:
        return await call(channel.grpc, "Echo", text, Text, "ocishim.test.Echo")


@pytest.mark.parametrize("runtime", ["runc", "runsc"])
@pytest.mark.parametrize("multiplexed", [False, True], ids=["sockets", "one-connection"])
async def test_all_of_it(client, tmp_path, runtime, multiplexed):
    taken: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def out(data: bytes) -> None:
        await taken.put(("out", data))

    async def err(data: bytes) -> None:
        await taken.put(("err", data))

    async with client(runtime, sinks=Sinks(out, err), broker_multiplex=multiplexed) as plugin:
        assert await call(plugin.channel, "Getenv", "PLUGIN_UNIX_SOCKET_DIR", Text) == FOLDER
        assert await call(plugin.channel, "Getenv", "PLUGIN_UNIX_SOCKET_GROUP", Text) == str(GROUP)
        (folder,) = tmp_path.glob("plugin-dir*")
        sockets = [os.lstat(entry) for entry in os.scandir(folder)]
        assert sockets
        assert {(s.st_uid, stat.S_IMODE(s.st_mode)) for s in sockets} == {(100, 0o660)}
        # gVisor of 2022 says that it has changed the group of a socket, and has not.
        assert {s.st_gid for s in sockets} <= {GROUP, *({1000} if runtime == "runsc" else ())}

        stub = plugin.channel.unary_unary(
            "/ocishim.test.Plugin/Print",
            request_serializer=StdioData.SerializeToString,
            response_deserializer=bytes,
        )
        await stub(StdioData(channel=StdioData.STDOUT, data=b"one\xff\n"))
        await stub(StdioData(channel=StdioData.STDERR, data=b"two"))
        assert [await taken.get() for _ in range(2)] == [("out", b"one\xff\n"), ("err", b"two")]

        assert await ask_host(plugin, "hello") == "HELLO"
        assert await echoed(plugin, "x" * 1_000_000) == "x" * 1_000_000
    # It was asked to end, and did.
    assert await plugin.wait() == 0
    assert list(tmp_path.glob("plugin-dir*")) == []
