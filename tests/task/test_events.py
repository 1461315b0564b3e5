"""The order in which things are told: containerd and its clients rely on it."""

from __future__ import annotations

import asyncio
import signal

import pytest
from support.coroutines import until

from shim.errors import NotFound, ShimError
from shim.oci.spec import to_json
from shim.stdio import Streams
from shim.store import records
from shim.task.bundle import Bundle
from shim.task.events import TaskCreated, TaskDeleted, TaskExited, TaskStarted

pytestmark = pytest.mark.root

SLEEP = ("sleep", "1000")


def process(*args: str) -> bytes:
    return to_json({"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}})


async def test_a_life(yard):
    for _ in range(5):
        yard.events.clear()
        container = await yard.create("sh", "-c", "exit 19")
        await container.start()
        ended = await container.wait()
        assert ended.status == 19
        await container.delete()
        created, started, exited, deleted = yard.events
        assert (type(created), created.pid) == (TaskCreated, container.pid)
        assert (type(started), started.pid) == (TaskStarted, container.pid)
        assert (type(exited), exited.id, exited.exit) == (TaskExited, container.id, ended)
        assert (type(deleted), deleted.exit) == (TaskDeleted, ended)


async def test_an_exec(yard):
    container = await yard.create(*SLEEP)
    await container.start()
    container.add_exec("e", process("true"), Streams())
    await container.start("e")
    await container.wait("e")
    await container.delete("e")
    await container.kill(signal.SIGKILL)
    await container.wait()
    await container.delete()
    assert yard.told() == [
        "TaskCreated",
        "TaskStarted",
        "ExecAdded e",
        "ExecStarted e",
        "TaskExited e",
        f"TaskExited {container.id}",
        "TaskDeleted",
    ]


async def test_the_exits_of_execs_come_before_that_of_the_init(yard):
    container = await yard.create(*SLEEP)
    await container.start()
    for name in ("e", "f"):
        container.add_exec(name, process(*SLEEP), Streams())
        await container.start(name)
    await container.kill(signal.SIGKILL)
    await container.wait()
    await container.delete()
    exits = [word for word in yard.told() if word.startswith("TaskExited")]
    assert sorted(exits[:2]) == ["TaskExited e", "TaskExited f"]
    assert exits[2:] == [f"TaskExited {container.id}"]
    assert yard.told()[-1] == "TaskDeleted"


async def test_an_exec_that_cannot_start(yard):
    container = await yard.create(*SLEEP)
    await container.start()
    container.add_exec("e", process("nothing-here"), Streams())
    with pytest.raises(ShimError, match="nothing-here"):
        await container.start("e")
    assert (await container.wait("e")).status == 255
    await container.delete("e")
    assert yard.told() == ["TaskCreated", "TaskStarted", "ExecAdded e"]
    await container.kill(signal.SIGKILL)
    await container.wait()
    await container.delete()


async def test_a_kill_before_the_start(yard):
    container = await yard.create(*SLEEP)
    await container.kill(signal.SIGKILL)
    assert (await container.wait()).status == 137
    await container.delete()
    assert yard.told() == ["TaskCreated", f"TaskExited {container.id}", "TaskDeleted"]


async def test_a_delete_before_the_start(yard):
    container = await yard.create(*SLEEP)
    await container.delete()
    assert yard.told() == ["TaskCreated", "TaskDeleted"]
    assert yard.events[-1].exit is None


async def test_a_failed_create_is_not_told(yard):
    with pytest.raises(ShimError, match="nothing-here"):
        await yard.create("nothing-here")
    assert yard.events == []


async def test_pause_and_resume(yard):
    container = await yard.create(*SLEEP)
    await container.start()
    await container.pause()
    await container.resume()
    assert yard.told() == ["TaskCreated", "TaskStarted", "TaskPaused", "TaskResumed"]
    await container.kill(signal.SIGKILL)
    await container.wait()
    await container.delete()


async def test_the_exit_is_on_disk_before_it_is_told(yard):
    container = await yard.create("sh", "-c", "exit 3")
    on_disk = []

    def publish(event: object) -> None:
        yard.events.append(event)
        if isinstance(event, TaskExited):
            on_disk.append(records.load(container.bundle.exit_record)["status"])

    yard.shop.publish = publish
    waiting = asyncio.create_task(container.wait())
    await container.start()
    await waiting
    await container.delete()
    assert on_disk == [3]
    assert yard.told().count(f"TaskExited {container.id}") == 1


async def test_two_deletes_at_once(yard):
    container = await yard.create("true")
    await container.start()
    await container.wait()
    outcomes = await asyncio.gather(container.delete(), container.delete(), return_exceptions=True)
    assert sorted(isinstance(o, ShimError) for o in outcomes) == [False, True]
    assert yard.told().count("TaskDeleted") == 1


async def test_an_end_waits_neither_for_a_start_that_hangs_nor_for_a_disk(yard, monkeypatch):
    """It waits a moment for both, so that what is told is on disk and in order; then nobody can wait longer."""
    monkeypatch.setattr("shim.task.ending._TELL_S", 0.05)
    disk = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        await disk.wait()

    container = await yard.create(*SLEEP)
    monkeypatch.setattr(container.driver, "start", hang)
    monkeypatch.setattr(Bundle, "save_exit", hang)
    starting = asyncio.create_task(container.start())
    await until(container.init.lock.locked)
    await container.kill(signal.SIGKILL)
    assert (await container.wait()).status == 137
    with pytest.raises(NotFound, match="has ended"):
        await starting
    await until(lambda: len(yard.events) == 2)
    assert yard.told() == ["TaskCreated", f"TaskExited {container.id}"]
    disk.set()
    await container.delete()
