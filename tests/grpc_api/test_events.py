"""Events of real containers, as subscribers get them: what they say, in which order, and what an outage does to them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import aclosing

import pytest
from support.api_in_loop import translated
from support.coroutines import until

from shim.client import Checkpoint, Client, Event
from shim.errors import InvalidArgument, OutOfRange, ResourceExhausted, Unavailable
from shim.grpc_api import reconcile
from shim.grpc_api.event_log import KEPT, SEGMENT
from shim.grpc_api.events import RESUME_KEY
from shim.proto import first_api_pb2 as wire

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


async def test_a_life(api, bundle):
    """Every field that an event has, from the first to the last."""
    folder = bundle(["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.02; done"], process={"cwd": "/tmp"})
    client = api.client
    pid = await client.create_container("c1", str(folder))
    exec_pid = await client.add_process("c1", ["sh", "-c", "sleep 0.2; exit 5"], env=["A=b"])
    assert [e.type for e in await api.events("exit")] == [
        "create",
        "start-container",
        "start-process",
        "exit",
    ]
    await client.update_container("c1", status="paused")
    await client.update_container("c1", status="running")
    await client.update_container("c1", signal=signal.SIGTERM)
    found = await api.events("delete")
    assert [(e.type, e.pid, e.status, e.signal) for e in found] == [
        ("create", pid, 0, 0),
        ("start-container", pid, 0, 0),
        ("start-process", exec_pid, 0, 0),
        ("exit", exec_pid, 5, 0),
        ("pause", pid, 0, 0),
        ("resume", pid, 0, 0),
        ("exit", pid, 3, 0),
        ("delete", pid, 3, 0),
    ]
    assert {(e.id, e.bundlePath) for e in found} == {("c1", str(folder))}
    assert [[c.status for c in e.containers] for e in found] == [
        ["created"], ["running"], ["running"], ["running"], ["paused"], ["running"], ["stopped"], [],
    ]  # fmt: skip
    started, exec_started, exec_ended, ended = found[1], found[2], found[3], found[6]
    assert started.process == ended.process
    assert (list(started.process.args)[:2], started.process.cwd) == (["sh", "-c"], "/tmp")
    assert exec_started.process == exec_ended.process
    assert (list(exec_started.process.args), "A=b" in exec_started.process.env) == (
        ["sh", "-c", "sleep 0.2; exit 5"],
        True,
    )
    assert {p.pid for p in exec_started.containers[0].processes} == {pid, exec_pid}


async def test_what_is_over_at_once_is_told_as_whole(api, bundle):
    """Whoever looks at it for the sake of its events comes too late."""
    await asyncio.gather(*(api.client.create_container(f"c{n}", str(bundle(["true"]))) for n in range(5)))
    await api.client.create_container("d", str(bundle(["sleep", "1000"])))
    await asyncio.gather(*(api.client.add_process("d", ["sh", "-c", ":"]) for _ in range(5)))
    await api.client.update_container("d", signal=9)
    for name in ("c0", "c1", "c2", "c3", "c4", "d"):
        await api.events("delete", container=name)
    found = await api.all_events()
    for kind, args, count in (
        ("start-container", ["true"], 5), ("exit", ["true"], 5), ("start-process", ["sh", "-c", ":"], 5),
        ("exit", ["sh", "-c", ":"], 5), ("exit", ["sleep", "1000"], 1),
    ):  # fmt: skip
        assert sum(e.type == kind and list(e.process.args) == args for e in found) == count


async def test_a_signal_is_told(api, bundle):
    await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    await api.client.update_container("c1", signal=signal.SIGKILL)
    *_, ended = await api.events("exit")
    assert (ended.status, ended.signal) == (137, 9)
    await api.events("delete")


async def test_out_of_memory(api, bundle):
    folder = bundle(
        ["sh", "-c", "x=x; while true; do x=$x$x; done"], linux={"resources": {"memory": {"limit": 32 << 20}}}
    )
    await api.client.create_container("c1", str(folder))
    found = [e.type for e in await api.events("exit")]
    assert found[:2] + found[-1:] == ["create", "start-container", "exit"]
    assert set(found[2:-1]) == {"oom"}
    await api.events("delete")


@pytest.mark.cgroup2
async def test_out_of_memory_on_cgroup_v2(api, bundle):
    await test_out_of_memory(api, bundle)


@pytest.mark.criu
async def test_a_checkpoint_is_told_with_what_it_was_asked_for(api, bundle):
    await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    await api.client.create_checkpoint("c1", Checkpoint(name="one", tcp=True))
    await api.client.create_checkpoint("c1", Checkpoint(name="two", exit=True, unixSockets=True))
    found = await api.events("delete")
    assert [e.checkpoint for e in found if e.type == "checkpoint"] == [
        Checkpoint(name="one", tcp=True), Checkpoint(name="two", exit=True, unixSockets=True),
    ]  # fmt: skip
    for name in ("one", "two"):
        await api.client.delete_checkpoint("c1", name)


async def test_a_shim_that_is_killed_is_found_out(api, bundle, monkeypatch):
    """While the server runs: what the container does then is told when it is over."""
    monkeypatch.setattr(reconcile, "EVERY_S", 0.05)
    await api.restart()
    await api.ocishim("run", "-d", bundle(["sleep", "1000"]), "c1")
    pid = (await api.events("start-container"))[-1].pid
    state = json.loads(await api.ocishim("state", "--json", "c1"))
    os.kill(state["shim_pid"], signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    ended = (await api.events("exit"))[-1]
    assert (ended.pid, ended.status) == (pid, 255)
    await api.ocishim("delete", "--force", "c1")
    assert [e.type for e in await api.events("delete")] == ["create", "start-container", "exit", "delete"]


async def test_a_deletion_has_the_status_of_the_end(api, bundle, monkeypatch):
    """Also where no shim tells of it, and another daemon than the one that heard of the end."""
    monkeypatch.setattr(reconcile, "EVERY_S", 0.05)
    await api.ocishim("run", "-d", bundle(["sh", "-c", "exit 3"]), "c1")
    await api.events("exit")
    os.kill(json.loads(await api.ocishim("state", "--json", "c1"))["shim_pid"], signal.SIGKILL)
    await api.restart()
    await api.ocishim("delete", "--force", "c1")
    assert (await api.events("delete"))[-1].status == 3


async def test_containers_of_the_command_line_are_told_too(api, bundle):
    folder = bundle(["sh", "-c", "exit 7"])
    await api.ocishim("run", "-d", folder, "c1")
    found = await api.events("exit")
    assert [(e.type, e.status, e.bundlePath) for e in found] == [
        ("create", 0, str(folder)), ("start-container", 0, str(folder)), ("exit", 7, str(folder)),
    ]  # fmt: skip
    await api.ocishim("delete", "c1")
    assert (await api.events("delete"))[-1].status == 7


async def test_every_subscriber_gets_every_event_in_order(api, bundle):
    """Fifty of them, and ten containers at once. Numbers have no gap, and are the same for all."""
    ready = asyncio.Semaphore(0)

    async def subscribe() -> list[tuple[int, str, str]]:
        found = []
        async with Client(api.url) as client:
            stream = client.events(after=0)
            ready.release()
            async for number, event in stream:
                found.append((number, event.type, event.id))
                if sum(kind == "delete" for _, kind, _ in found) == 10:
                    return found
        raise AssertionError("the stream has ended")

    subscribers = [asyncio.create_task(subscribe()) for _ in range(50)]
    for _ in subscribers:
        await ready.acquire()
    folder = bundle(["true"])
    await asyncio.gather(*(api.client.create_container(f"c{n}", str(folder)) for n in range(10)))
    first, *others = await asyncio.gather(*subscribers)
    assert all(other == first for other in others)
    assert [number for number, _, _ in first] == list(range(1, 41))
    for n in range(10):
        life = [kind for _, kind, name in first if name == f"c{n}"]
        assert life == ["create", "start-container", "exit", "delete"]


async def test_going_on_after_an_event(api, bundle):
    await api.client.create_container("c1", str(bundle(["true"])))
    await api.events("delete")
    assert [e.type for e in await api.events("delete", after=2)] == ["exit", "delete"]
    async with aclosing(api.client.events(after=1)) as stream:
        assert [(await anext(stream)).number for _ in range(3)] == [2, 3, 4]
    with pytest.raises(OutOfRange, match="not after 9"):
        await anext(api.client.events(after=9))


@pytest.mark.parametrize("value", ["", "x", "1.5", "-", "1_0"])
async def test_what_is_no_number(api, value):
    call = api.client._stream("Events", wire.EventsRequest(), Event, {RESUME_KEY: value})
    with pytest.raises(InvalidArgument, match="must be a whole number"):
        await translated(api.client, call)


async def test_events_survive_a_restart_and_go_on(api, bundle):
    await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    before = await api.events("start-container")
    await api.restart()
    await api.client.update_container("c1", signal=9)
    found = await api.events("delete")
    assert found[:2] == before
    assert [e.type for e in found[2:]] == ["exit", "delete"]
    assert found[2].pid == before[1].pid


async def test_a_subscriber_is_told_that_the_daemon_ends(api):
    """Also when its connection ends in the same moment: in one of 200 rounds it was not, while grpc itself saw to that."""
    for _ in range(20):
        calls = [api.client._stream("Events", wire.EventsRequest(), Event, {}) for _ in range(20)]
        for call in calls:
            await call.initial_metadata()  # it is subscribed
        await api.server.stop(5)
        for call in calls:
            with pytest.raises(Unavailable, match="the daemon ends"):
                await translated(api.client, call)
        await api.start()


async def test_what_ended_while_nobody_was_there_is_told_once(api, bundle):
    """Of containers made with a daemon and without one, deleted meanwhile or not, with a shim that was killed or not."""
    long = bundle(["sh", "-c", "sleep 1000"])
    for name in ("stays", "deleted", "shimless"):
        await api.ocishim("run", "-d", long, name)
    await api.events("start-container", container="shimless")
    await api.server.stop(0)
    await api.ocishim("run", "-d", bundle(["sh", "-c", "exit 4"]), "unheard")
    await api.ocishim("run", "--rm", bundle(["true"]), "gone")
    for name in ("stays", "deleted", "shimless"):
        await api.ocishim("kill", name, "KILL")
        await api.ocishim("wait", name)
    await api.ocishim("delete", "deleted")
    state = await api.ocishim("list", "--json")
    (shim_pid,) = [one["shim_pid"] for one in json.loads(state) if one["id"] == "shimless"]
    os.kill(shim_pid, signal.SIGKILL)
    await api.start()
    for _ in range(2):
        await api.restart()
    # Shims try again every two seconds at least.
    for name in ("stays", "unheard"):
        await api.events("exit", container=name)
    everything = await api.all_events()
    ends = {e.id: e.status for e in everything if e.type == "exit"}
    assert ends == {"stays": 137, "deleted": 137, "shimless": 137, "unheard": 4, "gone": 0}
    assert sum(e.type == "exit" for e in everything) == len(ends)
    for name in ("deleted", "gone"):
        life = [e.type for e in everything if e.id == name]
        assert life == ["create", "start-container", "exit", "delete"]


async def test_a_slow_subscriber_is_cut_off_and_can_go_on(api):
    """It reads nothing at all while more comes than is kept and than lies between us and it."""
    stream = api.client.events(after=0)
    big = "x" * 20_000

    async def tell(count: int) -> None:
        for _ in range(0, count, SEGMENT):
            keys = [f"test {api.server._log.last + n}" for n in range(SEGMENT)]
            told = [api.server._events.tell(Event(type="oom", id="c", bundlePath=big), key) for key in keys]
            await asyncio.gather(*told)

    waiting = asyncio.create_task(anext(stream))
    await tell(SEGMENT)
    assert (await waiting).number == 1
    await tell(2 * KEPT)
    got = [1]

    async def read_on() -> None:
        async for number, _ in stream:
            got.append(number)

    with pytest.raises(ResourceExhausted, match="behind"):
        await read_on()
    assert got == list(range(1, len(got) + 1))
    assert len(got) < 2 * KEPT
    with pytest.raises(OutOfRange):
        await anext(api.client.events(after=len(got)))


async def test_a_thousand_subscribers_that_go_leave_nothing(api, bundle):
    async with Client(api.url) as client:
        streams = [client.events(after=0) for _ in range(1000)]
        waiting = [asyncio.create_task(anext(stream)) for stream in streams]
        await api.client.create_container("c1", str(bundle(["true"])))
        assert {(await one).event.type for one in waiting} == {"create"}
        for stream in streams:
            await stream.aclose()
        await api.events("delete")
    await until(lambda: not api.server._log._readers and not api.server._streams._calls)
