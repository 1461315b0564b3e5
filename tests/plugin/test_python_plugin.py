"""The host's side against a plugin that can what a current go-plugin can, and Debian's cannot."""

from __future__ import annotations

import asyncio
import os
import stat
import sys

import grpc.aio
import pytest
from support import bed, python_plugin
from support.coroutines import until
from support.plugins import Number, Text, call, client, go_client, serving

from shim.errors import FailedPrecondition
from shim.plugin.client import PluginClient
from shim.plugin.protocol.connection import Sinks
from shim.proto.plugin_stdio_pb2 import StdioData

both = pytest.mark.parametrize("auto_mtls", [False, True], ids=["plain", "tls"])


@pytest.fixture
def python_client(monkeypatch):
    """Makes clients of the plugin in Python."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return lambda **changes: client([sys.executable, python_plugin.__file__], **changes)


async def printed(plugin: PluginClient, channel: int, data: bytes) -> None:
    stub = plugin.channel.unary_unary(
        "/ocishim.test.Plugin/Print",
        request_serializer=StdioData.SerializeToString,
        response_deserializer=bytes,
    )
    await stub(StdioData(channel=channel, data=data))


@both
async def test_it_calls_back_and_is_dialled(leaks, python_client, auto_mtls):
    async with python_client(auto_mtls=auto_mtls) as plugin:
        number = plugin.broker.next_id()
        host = serving("ocishim.test.Host", {"Answer": str.upper})
        async with await plugin.broker.accept_and_serve(number, [host]):
            assert await call(plugin.channel, "AskHost", f"{number} hello there", Text) == "HELLO THERE"
        offered = await call(plugin.channel, "Offer", "", Number)
        async with await plugin.broker.dial(offered) as channel:
            assert (
                await call(channel.grpc, "Echo", "x" * 1_000_000, Text, "ocishim.test.Echo")
                == "x" * 1_000_000
            )
    assert await plugin.wait() == 0


async def test_its_output_goes_where_it_is_wanted(leaks, python_client):
    taken: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def sink(name: str):
        async def take(data: bytes) -> None:
            await taken.put((name, data))

        return take

    async with python_client(sinks=Sinks(sink("out"), sink("err"))) as plugin:
        await printed(plugin, StdioData.STDOUT, b"one")
        await printed(plugin, StdioData.STDERR, b"two\xff\n")
        await printed(plugin, StdioData.INVALID, b"lost")
        await printed(plugin, StdioData.STDOUT, b"three")
        assert [await taken.get() for _ in range(3)] == [
            ("out", b"one"),
            ("err", b"two\xff\n"),
            ("out", b"three"),
        ]


async def test_output_that_nobody_wants_or_can_take_does_not_stop_it(leaks, python_client, caplog):
    async def fail(data: bytes) -> None:
        raise RuntimeError(f"no room for {len(data)}")

    async with python_client(sinks=Sinks(stderr=fail)) as plugin:
        for _ in range(50):
            await printed(plugin, StdioData.STDOUT, b"x" * 65536)
            await printed(plugin, StdioData.STDERR, b"x")
        await plugin.ping()
    assert "1 bytes of the plugin's output are lost" in caplog.text


async def test_a_sink_that_waits_makes_the_plugin_wait(leaks, python_client):
    room = asyncio.Semaphore(0)

    async def wait(_: bytes) -> None:
        await room.acquire()

    async with python_client(sinks=Sinks(stdout=wait)) as plugin:
        printing = [
            asyncio.create_task(printed(plugin, StdioData.STDOUT, b"x" * (1 << 20))) for _ in range(60)
        ]
        # What does not fit between the two is with the plugin: gRPC's window, and its own queue of eight.
        while len(done := {task for task in printing if task.done()}) < 8:
            await asyncio.wait(set(printing) - done, return_when=asyncio.FIRST_COMPLETED)
        await plugin.ping()
        assert not all(task.done() for task in printing)
        for _ in printing:
            room.release()
        await asyncio.gather(*printing)


async def test_its_sockets_are_where_and_for_whom_the_host_says(leaks, python_client, tmp_path):
    bed.need(bed.is_root(), "needs root")
    async with python_client(temp_dir=str(tmp_path), group="7", auto_mtls=True) as plugin:
        path = plugin.reattach_config().address.address
        assert path.startswith(f"{tmp_path}/plugin-dir")
        assert (os.stat(path).st_gid, stat.S_IMODE(os.stat(path).st_mode)) == (7, 0o660)
        assert await call(plugin.channel, "Getenv", "TMPDIR", Text) == os.path.dirname(path)
        async with await plugin.broker.accept_and_serve(1, []):
            assert {os.stat(entry).st_gid for entry in os.scandir(os.path.dirname(path))} == {7}


async def test_without_the_certificate_nobody_calls_the_host(leaks, python_client):
    async with python_client(auto_mtls=True) as plugin:
        host = serving("ocishim.test.Host", {"Answer": str.upper})
        async with await plugin.broker.accept_and_serve(1, [host]):
            folder = os.path.dirname(plugin.reattach_config().address.address)
            for name in os.listdir(folder):
                async with grpc.aio.insecure_channel(f"unix:{folder}/{name}") as stranger:
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await call(stranger, "Answer", "x", Text, "ocishim.test.Host")
                    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await call(plugin.channel, "AskHost", "1 x", Text) == "X"


@both
async def test_with_a_multiplexed_broker_all_goes_over_one_connection(
    leaks, python_client, auto_mtls, tmp_path
):
    async with python_client(auto_mtls=auto_mtls, broker_multiplex=True, temp_dir=str(tmp_path)) as plugin:
        answers = {"Answer": str.upper}, {"Answer": lambda text: text[::-1]}
        first, second = plugin.broker.next_id(), plugin.broker.next_id()
        async with await plugin.broker.accept_and_serve(first, [serving("ocishim.test.Host", answers[0])]):
            assert await call(plugin.channel, "AskHost", f"{first} hello", Text) == "HELLO"
            # A number may be told before anything is served there.
            asking = asyncio.create_task(call(plugin.channel, "AskHost", f"{second} hello", Text))
            await until(lambda: plugin.broker._knocked)
            async with await plugin.broker.accept_and_serve(
                second, [serving("ocishim.test.Host", answers[1])]
            ):
                assert await asking == "olleh"
        offered = await call(plugin.channel, "Offer", "", Number)
        for size in (1, 1_000_000):
            async with await plugin.broker.dial(offered) as channel:
                assert await call(channel.grpc, "Echo", "x" * size, Text, "ocishim.test.Echo") == "x" * size
        # There is nothing else in the folder that both share than what the plugin has made.
        (folder,) = tmp_path.iterdir()
        assert len(list(folder.iterdir())) <= 3
        assert plugin.broker._doors == {}
    assert await plugin.wait() == 0


async def test_a_knock_that_is_refused_fails_the_call(leaks, python_client):
    async with python_client(broker_multiplex=True) as plugin, await plugin.broker.dial(7) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel.grpc, "Echo", "x", Text, "ocishim.test.Echo")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert channel.error == "connection 7 to the plugin: no listener for id 7"
        with pytest.raises(FailedPrecondition, match="takes one connection, which is ours"):
            plugin.reattach_config()


async def test_a_plugin_that_cannot_multiplex_is_told(leaks):
    with pytest.raises(
        FailedPrecondition, match=r"it knows no multiplexed broker, as plugins do since go-plugin 1\.6"
    ):
        await go_client(broker_multiplex=True).start()
