"""The server as a client meets it: health, reflection, codes, limits, many at once, TLS, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support import bed, first_api
from support.certificates import Authority
from support.coroutines import until
from support.go_program import CLIENT

from shim.client import Client, TlsFiles
from shim.errors import (
    AlreadyExists,
    Canceled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from shim.grpc_api import calls
from shim.grpc_api.server import ApiServer, TlsListener

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


async def test_health(api):
    async with grpc.aio.insecure_channel(f"unix:{api.socket}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "types.API"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watching = stub.Watch(health_pb2.HealthCheckRequest(service="types.API"))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        # Nobody waits for it at the end.
        stopping = asyncio.create_task(api.server.stop(1))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching.cancel()
        await stopping
    await api.start()


async def test_reflection_lists_the_services_and_their_numbers(api):
    """As grpcurl would ask."""
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="types.API"),
    ]
    async with grpc.aio.insecure_channel(f"unix:{api.socket}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, file = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    names = {service.name for service in listed.list_services_response.service}
    assert names == {"types.API", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    (described,) = [
        proto
        for body in file.file_descriptor_response.file_descriptor_proto
        if (proto := FileDescriptorProto.FromString(body)).package == "types"
    ]
    (service,) = described.service
    assert [(method.name, method.server_streaming) for method in service.method] == [
        *((name, False) for name in (
            "CreateContainer", "UpdateContainer", "Signal", "AddProcess",
            "CreateCheckpoint", "DeleteCheckpoint", "ListCheckpoint", "State",
        )),
        ("Events", True),
        ("GetStats", True),
    ]  # fmt: skip
    (event,) = [message for message in described.message_type if message.name == "Event"]
    assert {field.name: field.number for field in event.field} == {
        "type": 1, "id": 2, "status": 3, "bundlePath": 4, "pid": 5, "signal": 7, "process": 8, "containers": 9,
        "checkpoint": 10,
    }  # fmt: skip


async def test_a_client_in_go(api, bundle):
    bed.need(CLIENT.is_there(), "Go is not installed: apt-get install golang-google-grpc-dev")
    program = await asyncio.to_thread(CLIENT.built)

    async def go(*words: str) -> list[dict]:
        process = await asyncio.create_subprocess_exec(
            program, str(api.socket), *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return [json.loads(line) for line in out.splitlines()]

    folder = bundle(
        ["sleep", "1000"], process={"cwd": "/tmp", "user": {"uid": 1, "gid": 2, "additionalGids": [3, 400]}}
    )
    pid = await api.client.create_container("c1", str(folder))
    (state,) = await go("state")
    (container,) = state["Containers"]
    (process,) = container["Processes"]
    assert (container["Id"], container["BundlePath"], container["Status"]) == ("c1", str(folder), "running")
    assert (process["Pid"], process["Args"], process["Cwd"]) == (pid, ["sleep", "1000"], "/tmp")
    assert process["User"] == {"Uid": 1, "Gid": 2, "AdditionalGids": [3, 400]}
    assert (state["Machine"]["Cpus"], state["Machine"]["Memory"] > 1 << 20) == (os.cpu_count(), True)
    await api.client.update_container("c1", signal=9)
    events = await go("events", "4")
    assert [(e["Type"], e["Pid"], e["Status"], e["Signal"]) for e in events] == [
        ("create", pid, 0, 0), ("start-container", pid, 0, 0), ("exit", pid, 137, 9), ("delete", pid, 137, 0),
    ]  # fmt: skip
    assert events[1]["Process"] == process


async def test_a_client_of_containerds_own_file_reads_the_streams(api, bundle, tmp_path):
    """As it is: without metadata of ours, at containerd's pace, with events from now on."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    await asyncio.to_thread(first_api.generate, stubs)
    pid = await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    await api.events("start-container")
    program = str(Path(first_api.__file__).with_name("first_api_streams.py"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, str(stubs), str(api.socket), "c1", "2", stdout=subprocess.PIPE
    )
    first, second = [json.loads(await process.stdout.readline()) for _ in range(2)]
    assert 0 <= int(second["timestamp"]) - int(first["timestamp"]) <= 10
    assert [int(one["cgroup_stats"]["memory_stats"]["usage"]["usage"]) > 0 for one in (first, second)] == [
        True
    ] * 2
    assert first["network_stats"][0]["name"] == "lo"
    assert await process.stdout.readline() == b"ready\n"
    await api.client.update_container("c1", status="paused")
    await api.client.update_container("c1", status="running")
    await api.client.update_container("c1", signal=9)
    out, _ = await process.communicate()
    events = [json.loads(line) for line in out.splitlines()]
    assert [(e["type"], e["pid"], e.get("status"), e.get("signal")) for e in events] == [
        ("pause", pid, None, None), ("resume", pid, None, None), ("exit", pid, 137, 9), ("delete", pid, 137, None),
    ]  # fmt: skip
    assert events[0]["containers"][0]["processes"][0]["args"] == ["sleep", "1000"]


async def test_two_hundred_clients_at_once(api, bundle):
    """Each with a connection of its own, an Events stream, a stream of statistics, and calls that are right and wrong."""
    await api.client.create_container("c1", str(bundle(["sleep", "1000"])))

    async def one(number: int) -> None:
        async with Client(api.url) as client:
            async with aclosing(client.events(after=0)) as events, aclosing(client.stats("c1")) as stats:
                assert (await anext(events)).event.type == "create"
                assert (await anext(stats)).HasField("cgroup_stats")
                assert [c.id for c in (await client.state()).containers] == ["c1"]
            with pytest.raises(NotFound):
                await client.update_container(f"x{number}", signal=15)
            with pytest.raises(InvalidArgument):
                await client.create_container("../x", "/nowhere")

    await asyncio.gather(*map(one, range(200)))
    await until(lambda: not api.server._streams._calls and not api.server._stats._samples)
    assert not api.server._log._readers


async def test_what_handlers_raise(api, monkeypatch):
    """Each code of the one table arrives as it is; a fault of ours says so, and no more than a line."""
    with pytest.raises(NotFound, match="container nobody"):
        await api.client.update_container("nobody", signal=9)
    with pytest.raises(InvalidArgument):
        await api.client.update_container("c1", status="upside down")
    monkeypatch.setattr(api.server._api, "_containers", None)
    logged = []
    monkeypatch.setattr(calls, "_log", SimpleNamespace(error=lambda text, **_more: logged.append(text)))
    with pytest.raises(Internal, match="a fault of ocishim itself: AttributeError"):
        await api.client.state()
    assert len(logged) == 1


async def test_a_request_that_is_too_large(api):
    with pytest.raises(ResourceExhausted, match="larger than max"):
        await api.client.add_process("c1", ["x" * (5 << 20)])
    assert not (await api.client.state()).containers


async def test_bytes_that_are_no_message(api):
    async with grpc.aio.insecure_channel(f"unix:{api.socket}") as channel:
        for method in ("State", "CreateContainer"):
            call = channel.unary_unary(f"/types.API/{method}")(b"\xff\xff\xff")
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert await call.details() == f"the {method}Request cannot be decoded"
        stream = channel.unary_stream("/types.API/GetStats")(b"\xff")
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        call = channel.unary_unary("/types.API/Nothing")(b"")
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_deadlines_and_cancellation(api, bundle, monkeypatch):
    """A call that nobody waits for any more is cancelled, here while it asks a shim that does not answer."""
    never = asyncio.Event()
    entered, ended = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def hanging(_container):
        entered.release()
        try:
            await never.wait()
        finally:
            ended.release()

    await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    monkeypatch.setattr(api.server._api, "_described", hanging)
    async with Client(api.url, timeout_s=0.2) as client:
        with pytest.raises(DeadlineExceeded):
            await client.state()
        await asyncio.gather(entered.acquire(), ended.acquire())
    async with Client(api.url) as client:
        waiting = asyncio.create_task(client.state())
        await entered.acquire()
        waiting.cancel()
        await ended.acquire()
        closed = asyncio.create_task(client.state())
        await entered.acquire()
    with pytest.raises(Canceled):
        await closed
    await ended.acquire()
    # Of the end of the container, too, is told what it was.
    monkeypatch.undo()


async def test_a_second_server_of_the_same_state_directory(api):
    second = ApiServer(api.config)
    with pytest.raises(AlreadyExists, match=r"events\.sock"):
        await second.start(f"{api.socket}.2")
    assert (await api.client.state()).machine.cpus == os.cpu_count()
    assert "events.sock" in os.listdir(api.config.state_root)


async def test_tls_asks_for_a_certificate_and_takes_a_renewed_one(api, tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = ours.issue("server")
    await api.server.stop(0)
    api.server = ApiServer(api.config)
    listener = TlsListener("127.0.0.1:0", str(certificate), str(key), str(ours.path))
    (port,) = await api.server.start(api.socket, [listener])

    async def cpus(authority: Authority, server_authority: Authority) -> int:
        files = TlsFiles(str(server_authority.path), *map(str, authority.issue("client")))
        async with Client(f"tcp://127.0.0.1:{port}", tls=files, timeout_s=10) as client:
            return (await client.state()).machine.cpus

    assert await cpus(ours, ours) == os.cpu_count()
    for wrong in ((theirs, ours), (ours, theirs)):
        with pytest.raises(Unavailable):
            await cpus(*wrong)
    with pytest.raises(Unavailable):
        async with Client(f"unix://{api.socket}.no") as client:
            await client.state()
    renewed = Authority(tmp_path / "ours")
    renewed.issue("server")
    assert await cpus(renewed, renewed) == os.cpu_count()
    key.write_text("no key at all")
    assert await cpus(renewed, renewed) == os.cpu_count()


@pytest.mark.parametrize(("broken", "words"), [(None, "cannot be read"), ("no PEM", "is no PEM file")])
async def test_certificates_that_cannot_be(api, tmp_path, broken, words):
    (tmp_path / "ca").mkdir()
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("server")
    certificate.unlink() if broken is None else certificate.write_text(broken)
    await api.server.stop(0)
    api.server = ApiServer(api.config)
    listener = TlsListener("127.0.0.1:0", str(certificate), str(key), str(authority.path))
    with pytest.raises(InvalidArgument, match=words):
        await api.server.start(api.socket, [listener])
    assert "events.sock" not in os.listdir(api.config.state_root)
    await api.start()
