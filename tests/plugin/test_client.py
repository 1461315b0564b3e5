"""A plugin that does not start as it should: what is said of it, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from support import plugins
from support.coroutines import until
from support.plugins import config, shell

from shim.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from shim.plugin.client import PluginClient


def left(temp_dir) -> list[str]:
    return os.listdir(temp_dir)


@pytest.mark.parametrize(
    ("script", "kind", "texts"),
    [
        ("exit 3", Unavailable, ["it exited before it could be connected to", "exited 3"]),
        ("kill -9 $$", Unavailable, ["it exited before", "was ended by signal 9"]),
        (
            "echo 'This binary is a plugin.' >&2; exit 1",
            Unavailable,
            ["it exited before", "exited 1; the end of its log: This binary is a plugin."],
        ),
        ("exec >&-; exec sleep 1000", Unavailable, ["it exited before", "is running"]),
        ("sleep 1000 & exit 4", Unavailable, ["it exited before", "exited 4"]),
        (
            "echo hello; exec sleep 1000",
            FailedPrecondition,
            ["unrecognized remote plugin message: 'hello'", "is running"],
        ),
        ("echo; exec sleep 1000", FailedPrecondition, ["unrecognized remote plugin message: ''"]),
        ("printf hello", FailedPrecondition, ["unrecognized remote plugin message: 'hello'"]),
        (
            "cat /dev/zero",
            FailedPrecondition,
            ["unrecognized remote plugin message: a line of 65536 bytes and more"],
        ),
        ("echo '2|1|unix|/s|grpc|'; exec sleep 1000", FailedPrecondition, ["incompatible core API version"]),
        (
            "echo '1|9|unix|/s|grpc|'; exec sleep 1000",
            FailedPrecondition,
            ["incompatible API version: the plugin's is 9, the host's 2, 3"],
        ),
        ("echo '1|2|unix|/s|netrpc|'; exec sleep 1000", Unimplemented, ["'netrpc' and not gRPC"]),
        (
            "echo '1|2|unix|/nowhere/s|grpc|'; exec sleep 1000",
            Unavailable,
            ["no answer from the plugin", "No such file or directory"],
        ),
        (
            "echo '1|2|tcp|127.0.0.1:1|grpc|'; exec sleep 1000",
            Unavailable,
            ["no answer from the plugin", "Connection refused"],
        ),
    ],
)
async def test_it_is_said_why_and_nothing_is_left(leaks, tmp_path, script, kind, texts):
    # The sleeper that holds the output is the test's own.
    script = (
        script.replace("sleep 1000 &", "setsid sleep 1000 & echo $! > sleeper;") if "&" in script else script
    )
    client = shell(f"cd {tmp_path}; {script}", temp_dir=str(tmp_path))
    with pytest.raises(kind) as caught:
        await client.start()
    assert "\n" not in str(caught.value)
    for text in ["plugin /bin/sh: ", *texts]:
        assert text in str(caught.value)
    assert set(left(tmp_path)) <= {"sleeper"}
    if "sleeper" in left(tmp_path):
        os.kill(int((tmp_path / "sleeper").read_text()), 9)
    await client.close()


async def test_one_that_says_nothing_is_not_waited_for_for_ever(leaks, tmp_path):
    client = shell("echo thinking >&2; exec sleep 1000", temp_dir=str(tmp_path), start_timeout_s=0.3)
    with pytest.raises(DeadlineExceeded, match=r"it did not start in 0\.3 s; .* is running; .*log: thinking"):
        await client.start()
    assert left(tmp_path) == []


async def test_whoever_gives_up_leaves_nothing(leaks, tmp_path):
    client = shell("exec sleep 1000", temp_dir=str(tmp_path))
    starting = asyncio.create_task(client.start())
    await until(lambda: client.id)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert left(tmp_path) == []


async def test_mutual_tls_that_the_plugin_knows_nothing_of_is_told(leaks, tmp_path):
    script = "echo '1|2|unix|/nowhere/s|grpc|'; exec sleep 1000"
    with pytest.raises(FailedPrecondition, match="it gave no certificate, which automatic mutual TLS needs"):
        await shell(script, temp_dir=str(tmp_path), auto_mtls=True).start()
    garbage = "A" * 64
    with pytest.raises(FailedPrecondition, match="the plugin's certificate cannot be read"):
        await shell(
            script.replace("grpc|", f"grpc|{garbage}"), temp_dir=str(tmp_path), auto_mtls=True
        ).start()
    assert left(tmp_path) == []


async def test_one_that_listens_and_never_answers_is_given_up(leaks, tmp_path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        script = f"echo '1|2|unix|{tmp_path}/s|grpc|'; exec sleep 1000"
        with pytest.raises(DeadlineExceeded, match=r"it did not start in 0\.5 s"):
            await shell(script, temp_dir=str(tmp_path), start_timeout_s=0.5).start()
    assert left(tmp_path) == ["s"]


async def test_what_is_asked_for_too_early_or_twice_is_refused(leaks, tmp_path):
    client = plugins.client(["/nowhere/plugin"], temp_dir=str(tmp_path))
    for ask in (
        lambda: client.channel,
        lambda: client.version,
        lambda: client.broker,
        client.reattach_config,
    ):
        with pytest.raises(FailedPrecondition, match="has not been started"):
            ask()
    for wait in (client.wait, client.ping):
        with pytest.raises(FailedPrecondition, match="has not been started"):
            await wait()
    with pytest.raises(NotFound, match="/nowhere/plugin"):
        await client.start()
    with pytest.raises(FailedPrecondition, match="started once"):
        await client.start()


async def test_a_folder_or_a_group_that_is_not_there_is_told(leaks, tmp_path):
    with pytest.raises(NotFound, match="a folder for sockets"):
        await shell("exit", temp_dir=str(tmp_path / "none")).start()
    with pytest.raises(InvalidArgument, match="there is no group 'ocishim-nobody'"):
        await shell("exit", temp_dir=str(tmp_path), group="ocishim-nobody").start()
    assert left(tmp_path) == []


async def test_a_runner_that_cannot_be_made_is_the_callers_error(leaks, tmp_path):
    def no_runner(*_):
        raise InvalidArgument("no image")

    with pytest.raises(InvalidArgument, match="no image"):
        await PluginClient(config(temp_dir=str(tmp_path)), no_runner).start()
    assert left(tmp_path) == []


@asynccontextmanager
async def health():
    """The least that a plugin serves, at a port of this host."""
    server = grpc.aio.server()
    serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def check(*_):
        return serving

    handler = grpc.unary_unary_rpc_method_handler(
        check, None, health_pb2.HealthCheckResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_one_that_serves_its_health_at_a_port_and_nothing_else_will_do(leaks, tmp_path):
    async with health() as port:
        script = f"echo '1|3|tcp|127.0.0.1:{port}|grpc|'; exec sleep 1000"
        async with shell(script, temp_dir=str(tmp_path)) as plugin:
            await plugin.ping()
            assert plugin.version == 3
            for attempt in (plugin.broker.dial(1), plugin.broker.accept_and_serve(2, [])):
                with pytest.raises(Unimplemented, match="the plugin's broker"):
                    await attempt
        # It cannot be asked to end, and is not waited for.
        assert await plugin.wait() == 128 + signal.SIGKILL
    assert left(tmp_path) == []
