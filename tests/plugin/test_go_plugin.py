"""The host's side against a real plugin: Debian's go-plugin 1.0.1, built with Go."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys

import grpc
import pytest
from support import bed, go_plugin
from support.coroutines import until
from support.plugins import Number, Text, call, config, go_client, serving

from shim.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from shim.plugin.client import PluginClient
from shim.plugin.local_runner import LocalRunner
from shim.plugin.protocol.handshake import HandshakeConfig

both = pytest.mark.parametrize("auto_mtls", [False, True], ids=["plain", "tls"])


@both
async def test_calls_are_answered_and_it_ends_when_it_is_told_to(leaks, tmp_path, auto_mtls):
    async with go_client(auto_mtls=auto_mtls, temp_dir=str(tmp_path)) as plugin:
        await call(plugin.channel, "Put", "one=1")
        assert await call(plugin.channel, "Get", "one", Text) == "1"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(plugin.channel, "Get", "two", Text)
        assert (caught.value.code(), caught.value.details()) == (
            grpc.StatusCode.NOT_FOUND,
            "no such key: two",
        )
        await plugin.ping()
        # More than gRPC takes by itself.
        large = tmp_path / "large"
        large.write_text("x" * (5 << 20))
        assert len(await call(plugin.channel, "ReadFile", str(large), Text)) == 5 << 20
        large.unlink()
    assert await plugin.wait() == 0
    assert os.listdir(tmp_path) == []
    with pytest.raises(FailedPrecondition, match="has been let go"):
        await plugin.ping()


@pytest.mark.parametrize(("ours", "agreed"), [((1, 2), 2), ((2, 3), 3), ((3, 4), 3)])
async def test_the_highest_version_that_both_have_is_agreed_on(leaks, ours, agreed):
    handshake = HandshakeConfig(*go_plugin.COOKIE, ours)
    async with go_client(handshake=handshake) as plugin:
        assert plugin.version == agreed
        assert await call(plugin.channel, "Version", "", Number) == agreed


async def test_one_without_a_common_version_or_the_cookie_is_told(leaks):
    with pytest.raises(FailedPrecondition, match="the plugin's is 2, the host's 7"):
        await go_client(handshake=HandshakeConfig(*go_plugin.COOKIE, (7,))).start()
    with pytest.raises(Unavailable, match=r"exited 1; the end of its log: .*This binary is a plugin"):
        await go_client(handshake=HandshakeConfig("OTHER_COOKIE", "x", (2,))).start()


async def test_with_tls_nobody_else_gets_in(leaks, tmp_path):
    async with go_client(auto_mtls=True, temp_dir=str(tmp_path)) as plugin:
        path = plugin.reattach_config().address.address
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        async with grpc.aio.insecure_channel(f"unix:{path}") as stranger:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(stranger, "Version", "", Number)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await plugin.ping()


async def test_the_way_through_tls_is_for_this_process_alone(leaks, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with go_client(auto_mtls=True) as plugin:
        (folder,) = tmp_path.glob("ocishim-plugin-*")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (path,) = folder.iterdir()
        connect = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"
        )
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", connect, str(path), stdout=subprocess.PIPE
        )
        out, _ = await other.communicate()
        assert out == b"b''\n"
        await plugin.ping()
    assert list(tmp_path.iterdir()) == []


async def test_it_calls_back_through_the_broker(leaks):
    async with go_client() as plugin:
        first, second = plugin.broker.next_id(), plugin.broker.next_id()
        shout = serving("ocishim.test.Host", {"Answer": str.upper})
        turn = serving("ocishim.test.Host", {"Answer": lambda text: text[::-1]})
        async with (
            await plugin.broker.accept_and_serve(first, [shout]),
            await plugin.broker.accept_and_serve(second, [turn]),
        ):
            assert await call(plugin.channel, "AskHost", f"{second} abc", Text) == "cba"
            assert await call(plugin.channel, "AskHost", f"{first} abc", Text) == "ABC"
        folder = os.path.dirname(plugin.reattach_config().address.address)
        assert len(os.listdir(folder)) == 1  # the plugin's own


@both
async def test_what_it_serves_through_the_broker_is_dialled(leaks, auto_mtls):
    async with go_client(auto_mtls=auto_mtls) as plugin:
        offered = await call(plugin.channel, "Offer", "", Number)
        async with await plugin.broker.dial(offered) as channel:
            assert await call(channel.grpc, "Echo", "hello", Text, "ocishim.test.Echo") == "hello"
        left_open = await plugin.broker.dial(await call(plugin.channel, "Offer", "", Number))
        assert await call(left_open.grpc, "Echo", "again", Text, "ocishim.test.Echo") == "again"


async def test_a_connection_that_is_never_offered_is_not_waited_for_for_ever(leaks, monkeypatch):
    monkeypatch.setattr("shim.plugin.protocol.broker._WAIT_S", 0.1)
    async with go_client() as plugin:
        with pytest.raises(DeadlineExceeded, match=r"offered no connection 77 in 0\.1 s"):
            await plugin.broker.dial(77)
        # Nor is an offer kept that nobody takes.
        offered = await call(plugin.channel, "Offer", "", Number)
        await until(lambda: plugin.broker._offers)
        await until(lambda: not plugin.broker._offers)
        with pytest.raises(DeadlineExceeded):
            await plugin.broker.dial(offered)


async def test_whoever_waits_for_a_plugin_that_dies_is_told_at_once(leaks, caplog):
    async with go_client() as plugin:
        waiting = asyncio.create_task(plugin.broker.dial(77))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(plugin.channel, "Exit", 5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await plugin.wait() == 5
        for attempt in (
            waiting,
            plugin.broker.dial(78),
            plugin.broker.accept_and_serve(79, []),
            plugin.ping(),
        ):
            with pytest.raises(Unavailable):
                await attempt
        await until(lambda: f"plugin {plugin.id} ended, exit status 5" in caplog.messages)


async def test_its_log_is_in_ours(leaks, caplog):
    caplog.set_level(1)
    async with go_client() as plugin:
        await call(plugin.channel, "Log", "warn something happened")
        await call(plugin.channel, "Log", "trace details")
        await call(plugin.channel, "Stderr", "[ERROR] by prefix\n" + "z" * 200_000 + "\nlast words")
        await call(plugin.channel, "Version", "", Number)
    name = f"plugin.{go_plugin.built().name}"
    records = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == name]
    assert ("WARNING", 'something happened module=test number=7 word="some thing"') in records
    assert ("TRACE", 'details module=test number=7 word="some thing"') in records
    assert ("ERROR", "by prefix") in records
    assert records[-1] == ("DEBUG", "last words")
    assert [len(text) for _, text in records[-5:-1]] == [65536, 65536, 65536, 200_000 - 3 * 65536]


async def test_what_it_prints_does_not_stop_it(leaks):
    async with go_client() as plugin:
        for _ in range(3):
            await call(plugin.channel, "Fill", 1 << 20)


async def test_one_that_does_not_end_is_killed(leaks, monkeypatch, tmp_path):
    monkeypatch.setattr("shim.plugin.client._GRACE_S", 0.2)
    async with go_client(temp_dir=str(tmp_path)) as plugin:
        os.kill(int(plugin.id), signal.SIGSTOP)
        monkeypatch.setattr("shim.plugin.protocol.connection._SHUTDOWN_S", 0.2)
    assert await plugin.wait() == 128 + signal.SIGKILL
    assert os.listdir(tmp_path) == []


async def test_a_group_can_use_the_sockets(leaks, tmp_path):
    bed.need(bed.is_root(), "needs root")
    async with go_client(temp_dir=str(tmp_path), group="7") as plugin:
        address = plugin.reattach_config().address.address
        folder = os.path.dirname(address)
        assert (os.stat(folder).st_gid, stat.S_IMODE(os.stat(folder).st_mode)) == (7, 0o770)
        assert await call(plugin.channel, "Getenv", "PLUGIN_UNIX_SOCKET_GROUP", Text) == "7"
        async with await plugin.broker.accept_and_serve(1, []):
            (ours,) = {os.path.join(folder, name) for name in os.listdir(folder)} - {address}
            assert (os.stat(ours).st_gid, stat.S_IMODE(os.stat(ours).st_mode)) == (7, 0o660)


_ATTACH = """
import asyncio, sys
from pathlib import Path
from support.plugins import Text, call, config
from shim.plugin.client import PluginClient
from shim.plugin.local_process import LocalProcess
from shim.plugin.reattach_config import ReattachConfig

async def main():
    found = ReattachConfig.load(Path(sys.argv[1]))
    plugin = await PluginClient.reattach(config(), found, LocalProcess.attach(int(found.id)))
    async with plugin:
        print(plugin.version, await call(plugin.channel, "Get", "key", Text))

asyncio.run(main())
"""


@both
async def test_another_process_goes_on_with_it_and_ends_it(leaks, tmp_path, auto_mtls):
    runners = []

    def make_runner(env, _):
        runners.append(LocalRunner([str(go_plugin.built())], env))
        return runners[0]

    bed.need(go_plugin.is_there(), "Go is not installed: apt-get install golang-go")
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    first = PluginClient(config(auto_mtls=auto_mtls, temp_dir=str(sockets)), make_runner)
    await first.start()
    await call(first.channel, "Put", "key=value")
    saved = tmp_path / "plugin.json"
    await (await first.detach()).save(saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    os.kill(int(runners[0].id), 0)
    other = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _ATTACH,
        str(saved),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    out, _ = await other.communicate()
    assert out == b"3 value\n"
    assert await runners[0].wait() == 0
    assert os.listdir(sockets) == []
