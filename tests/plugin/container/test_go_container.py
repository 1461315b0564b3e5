"""A real plugin of Debian's go-plugin, in containers of real runtimes, spoken to over gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import go_plugin
from support.plugin_containers import FOREVER
from support.plugin_containers import GO_IMAGE as IMAGE
from support.plugins import Number, Text, call, config, serving

from shim.errors import FailedPrecondition, Unavailable
from shim.plugin import Config, HandshakeConfig, PluginContainer
from shim.plugin.client import PluginClient

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


@pytest.fixture
def client(go_image, settings, parent, tmp_path):
    """Makes clients of plugins that are not started."""
    sockets = tmp_path / "sockets"
    sockets.mkdir()

    def make(changes: dict[str, Any] | None = None, **members) -> PluginClient:
        own = Config(**{"image": IMAGE, "cgroup_parent": parent, **members})
        return PluginClient(
            config(**{"temp_dir": str(sockets), **(changes or {})}), PluginContainer.factory(own, settings)
        )

    yield make
    assert os.listdir(sockets) == []


async def ask_host(plugin: PluginClient, question: str) -> str:
    """What the plugin gets from us, whom it asks through the broker."""
    number = plugin.broker.next_id()
    shout = serving("ocishim.test.Host", {"Answer": str.upper})
    async with await plugin.broker.accept_and_serve(number, [shout]):
        return await call(plugin.channel, "AskHost", f"{number} {question}", Text)


@pytest.mark.parametrize("runtime", ["runc", "crun", "runsc"])
async def test_it_is_called_through_mutual_tls(client, go_image, runtime):
    plugin = client({"auto_mtls": True}, runtime=runtime, sha256=go_image)
    async with plugin:
        await call(plugin.channel, "Put", "one=1")
        assert await call(plugin.channel, "Get", "one", Text) == "1"
        await plugin.ping()
        with pytest.raises(grpc.aio.AioRpcError):
            await call(plugin.channel, "Get", "two", Text)
        offered = await call(plugin.channel, "Offer", "", Number)
        async with await plugin.broker.dial(offered) as channel:
            assert await call(channel.grpc, "Echo", "hello", Text, "ocishim.test.Echo") == "hello"
    # It was asked to end, and did.
    assert await plugin.wait() == 0


@pytest.mark.parametrize("runtime", ["runc", "runsc"])
async def test_another_user_is_in_the_group_of_the_sockets(client, runtime):
    """And calls back, without TLS: go-plugin 1.0.1 cannot dial through its broker with it."""
    async with client({"group": "4242"}, tag="user", runtime=runtime, group_add=4242) as plugin:
        status = await call(plugin.channel, "ReadFile", "/proc/self/status", Text)
        assert "Uid:\t100\t100\t100\t100\n" in status
        assert await ask_host(plugin, "abc") == "ABC"


async def test_another_user_who_is_not_in_it(client):
    with pytest.raises(Unavailable, match="permission denied"):
        await client({"group": "4242"}, tag="user").start()


@pytest.mark.parametrize(("cap_ipc_lock", "locked"), [(True, True), (False, False)])
async def test_memory_is_locked_by_who_may(client, cap_ipc_lock, locked):
    """More than every user may (RLIMIT_MEMLOCK)."""
    size = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] + (1 << 20)
    async with client(cap_ipc_lock=cap_ipc_lock) as plugin:
        if locked:
            await call(plugin.channel, "Mlock", size)
        else:
            with pytest.raises(grpc.aio.AioRpcError, match="cannot allocate memory"):
                await call(plugin.channel, "Mlock", size)


ATTACH = """
import asyncio, json, sys
from pathlib import Path
from support.plugins import Text, call, config
from shim.config import Config as Settings
from shim.plugin import AttachedContainer
from shim.plugin.client import PluginClient
from shim.plugin.reattach_config import ReattachConfig

async def main():
    found = ReattachConfig.load(Path(sys.argv[1]))
    runner = await AttachedContainer.attach(found.id, found.socket_dir, Settings(**json.loads(sys.argv[2])))
    async with await PluginClient.reattach(config(), found, runner) as plugin:
        print(await call(plugin.channel, "Get", "key", Text))

asyncio.run(main())
"""


@pytest.mark.parametrize("runtime", ["runc", "runsc"])
async def test_another_process_goes_on_with_it_and_ends_it(client, settings, tmp_path, runtime):
    first = client({"auto_mtls": True}, runtime=runtime)
    await first.start()
    await call(first.channel, "Put", "key=value")
    runner = first._runner
    saved = tmp_path / "plugin.json"
    await (await first.detach()).save(saved)
    where = json.dumps({"state_root": settings.state_root, "data_root": settings.data_root})
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ATTACH, str(saved), where,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    out, _ = await other.communicate()
    assert out == b"value\n"
    assert await runner.wait() == 0
    await runner.kill()


async def test_one_that_does_not_fit_is_told_and_gone(client, settings):
    for handshake, kind, says in (
        (HandshakeConfig(*go_plugin.COOKIE, (7,)), FailedPrecondition, "incompatible API version"),
        (HandshakeConfig("OTHER", "x"), Unavailable, "This binary is a plugin"),
    ):
        with pytest.raises(kind, match=says) as caught:
            await client({"handshake": handshake}).start()
        assert f"Image ref: {IMAGE}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert os.listdir(Path(settings.data_root, "plugin-containers")) == []


LINES = {
    "nothing": ("exit 3", Unavailable, "exited 3"),
    "garbage": ("echo hello; " + FOREVER, FailedPrecondition, "nrecognized remote plugin message: 'hello'"),
    "another core version": ("echo '9|1|unix|/x|grpc'; " + FOREVER, FailedPrecondition, "incompatible core API version"),
    "an address elsewhere": ("echo '1|2|unix|/run/x|grpc'; " + FOREVER, Exception, "/tmp/go-plugin-container"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "kind", "says"), LINES.values(), ids=LINES)
async def test_what_is_no_plugin_is_told_and_gone(plugin, settings, tmp_path, script, kind, says):
    def make_runner(env, socket_dir):
        own = plugin(script)
        return PluginContainer(own._config, env, socket_dir, settings)

    sockets = tmp_path / "folder"
    sockets.mkdir()
    with pytest.raises(kind, match=says):
        await PluginClient(config(temp_dir=str(sockets)), make_runner).start()
    assert os.listdir(sockets) == []
    assert os.listdir(Path(settings.data_root, "plugin-containers")) == []
