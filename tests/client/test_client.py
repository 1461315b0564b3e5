"""The client, from an event loop and from a script, against a daemon in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing, suppress

import pytest

from shim.client import BlockingClient, Checkpoint, Client, User
from shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, Unavailable

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


async def test_all_calls(daemon, bundle):
    folder = str(bundle(["sh", "-c", "while :; do sleep 0.05; done"]))
    async with Client(f"unix://{daemon.grpc_socket}") as client:
        pid = await client.create_container("c1", folder)
        with pytest.raises(AlreadyExists):
            await client.create_container("c1", folder)
        exec_pid = await client.add_process(
            "c1", ["sleep", "1000"], env=["A=b"], cwd="/tmp", user=User(uid=5, gid=6, additionalGids=[7])
        )
        state = await client.state()
        assert state.machine.cpus == os.cpu_count()
        (container,) = state.containers
        assert (container.id, container.bundlePath, container.status) == ("c1", folder, "running")
        init, added = container.processes
        assert (init.pid, added.pid) == (pid, exec_pid)
        assert (list(added.args), added.cwd, added.user) == (
            ["sleep", "1000"], "/tmp", User(uid=5, gid=6, additionalGids=[7]),
        )  # fmt: skip
        assert "A=b" in added.env
        await client.signal("c1", exec_pid, signal.SIGKILL)
        await client.update_container("c1", status="paused")
        assert (await client.state()).containers[0].status == "paused"
        await client.update_container("c1", status="running")
        async with aclosing(client.stats("c1", interval_s=0.1)) as stats:
            assert (await anext(stats)).cgroup_stats.memory_stats.usage.usage > 0
        assert await client.list_checkpoints("c1") == []
        with pytest.raises(NotFound):
            await client.delete_checkpoint("c1", "none")
        with pytest.raises(InvalidArgument):
            await client.create_checkpoint("c1", Checkpoint(name="a/b"))
        await client.update_container("c1", signal=signal.SIGKILL)
        async with aclosing(client.events(after=0)) as events:
            found = [await anext(events) for _ in range(8)]
        assert (found[-1].number, found[-1].event.type, found[-1].event.status) == (8, "delete", 137)
        with pytest.raises(OutOfRange):
            await anext(client.events(after=1000))


def test_from_a_script(daemon, bundle):
    with BlockingClient(f"unix://{daemon.grpc_socket}") as client:
        pid = client.create_container("c1", str(bundle(["sleep", "1000"])))
        assert [p.pid for p in client.state().containers[0].processes] == [pid]
        stream = client.events(after=0)
        assert [next(stream).event.type for _ in range(2)] == ["create", "start-container"]
        stats = client.stats("c1", interval_s=0.1)
        assert next(stats).timestamp
        client.update_container("c1", signal=9)
        for _ in stats:
            pass
        assert [next(stream).event.type for _ in range(2)] == ["exit", "delete"]
        stream.close()
        with pytest.raises(NotFound):
            client.update_container("c2", signal=9)
        with pytest.raises(AttributeError):
            client.nothing()
    client.close()


async def to_the_end(stream, got):
    async for one in stream:
        got.append(one)


async def is_back(client):
    """grpc tries to connect again from time to time."""
    while True:
        with suppress(Unavailable):
            return await client.state()
        await asyncio.sleep(0.01)


async def test_a_daemon_that_is_killed_harms_no_container_and_no_event_is_lost(daemon, bundle):
    """In the middle of streams. Whoever goes on after the last event that it has got misses none, and gets none twice."""
    url = f"unix://{daemon.grpc_socket}"
    long = str(bundle(["sleep", "1000"]))
    got = []
    async with Client(url) as client:
        pids = [await client.create_container(f"c{n}", long) for n in range(3)]
        events, stats = client.events(after=0), client.stats("c0", interval_s=0.1)
        got += [await anext(events) for _ in range(4)]
        await anext(stats)
        daemon.send(signal.SIGKILL)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await to_the_end(events, got)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await to_the_end(stats, [])
        with pytest.raises(Unavailable):
            await client.state()
        daemon.stop(signal.SIGKILL)
        for pid in pids:
            os.kill(pid, 0)
        os.kill(pids[0], signal.SIGKILL)
        daemon.start()
        await is_back(client)
        await client.update_container("c1", signal=9)
        assert {c.id for c in (await client.state()).containers} >= {"c2"}
        async with aclosing(client.events(after=got[-1].number)) as events:
            # What a shim could not tell before the kill it tells again later, maybe after the ends of others.
            while len(got) < 10:
                got.append(await anext(events))
    assert [one.number for one in got] == list(range(1, 11))
    for name, pid in (("c0", pids[0]), ("c1", pids[1])):
        life = [(one.event.type, one.event.pid, one.event.status) for one in got if one.event.id == name]
        assert life == [
            ("create", pid, 0), ("start-container", pid, 0), ("exit", pid, 137), ("delete", pid, 137),
        ]  # fmt: skip


async def test_one_client_waits_while_another_works(daemon, bundle):
    """Calls of one connection do not wait for each other."""
    async with Client(f"unix://{daemon.grpc_socket}") as client:
        await client.create_container("c1", str(bundle(["sleep", "1000"])))
        async with aclosing(client.events(after=0)) as events:
            for _ in range(2):
                await anext(events)
        waiting = asyncio.create_task(anext(client.events()))
        for _ in range(20):
            assert (await client.state()).containers
        with pytest.raises((FailedPrecondition, NotFound)):
            await client.signal("c1", 1, 9)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def copy(reader, writer):
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


async def test_a_connection_may_take_its_time(daemon, state_root):
    """As one does from far away, or to a host that has much to do."""
    over = asyncio.Event()

    async def late(reader, writer):
        await asyncio.sleep(0.5)
        from_daemon, to_daemon = await asyncio.open_unix_connection(daemon.grpc_socket)
        await asyncio.gather(copy(reader, to_daemon), copy(from_daemon, writer))
        over.set()

    far = f"{state_root}/far"
    async with await asyncio.start_unix_server(late, far):
        async with Client(f"unix://{far}") as client:
            assert (await client.state()).machine.cpus == os.cpu_count()
        await over.wait()
    with suppress(FileNotFoundError):  # newer Pythons do it themselves
        os.unlink(far)


def test_nothing_of_a_stream_comes_after_the_end(daemon, bundle, caplog):
    """grpc has to do with a call that was cancelled for a moment longer."""
    url = f"unix://{daemon.grpc_socket}"
    with BlockingClient(url) as client:
        client.create_container("c1", str(bundle(["true"])))
    for _ in range(30):
        with BlockingClient(url) as client:
            assert client.wait("c1") == 0
    assert caplog.messages == []
