"""Its files are open while somebody asks."""

from __future__ import annotations

import asyncio

from support.coroutines import until

from shim.task import meter
from shim.task.meter import Meter


class Group:
    """A group whose gauge counts."""

    def __init__(self) -> None:
        self.reads = 0
        self.closed = 0

    def gauge(self):
        return self

    def read(self):
        self.reads += 1
        return {"reads": self.reads}

    def close(self):
        self.closed += 1


async def test_files_are_closed_when_nobody_asks_for_long(monkeypatch):
    monkeypatch.setattr(meter, "_KEPT_S", 0.02)
    group = Group()
    asked = Meter(group)
    assert asked.read() == {"reads": 1}
    await until(lambda: group.closed == 1)
    assert asked.read() == {"reads": 2}
    asked.close()
    asked.close()
    assert group.closed == 3


async def test_asking_keeps_them_open(monkeypatch):
    group = Group()
    asked = Meter(group)
    loop = asyncio.get_running_loop()
    asked.read()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + meter._KEPT_S - 1)
    asked.read()
    monkeypatch.setattr(loop, "time", lambda: now + meter._KEPT_S + 1)
    asked._look()
    assert group.closed == 0
    monkeypatch.setattr(loop, "time", lambda: now + 2 * meter._KEPT_S)
    asked._look()
    assert group.closed == 1
    monkeypatch.undo()
