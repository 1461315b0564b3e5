"""Its files are open while somebody asks."""

from __future__ import annotations

import asyncio

from shim.cgroup.legacy_stats import Stats
from shim.task import meter
from shim.task.meter import Meter


class Group:
    """A group of one file."""

    def __init__(self, path) -> None:
        self.path = str(path)
        self.read = []

    def stats(self, read_file):
        self.read.append(read_file(self.path))
        return Stats()


def test_files_are_closed_when_nobody_asks_for_long(tmp_path, monkeypatch):
    (tmp_path / "usage").write_text("1")
    monkeypatch.setattr(meter, "_KEPT_S", 0.05)

    async def body():
        group = Group(tmp_path / "usage")
        asked = Meter(group)
        assert asked.read() == Stats()
        while len(asked._files):  # noqa: ASYNC110 - a timer tells nobody
            await asyncio.sleep(0.01)
        assert asked.read() == Stats()
        assert len(asked._files) == 1
        asked.close()
        asked.close()
        assert len(asked._files) == 0
        assert group.read == [b"1", b"1"]

    asyncio.run(body())


def test_asking_keeps_them_open(tmp_path, monkeypatch):
    (tmp_path / "usage").write_text("1")

    async def body():
        asked = Meter(Group(tmp_path / "usage"))
        asked.read()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 0.0)
        asked._look()
        assert len(asked._files) == 1
        asked.close()

    asyncio.run(body())
