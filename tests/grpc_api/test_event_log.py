"""Numbers, order, what is kept, and what a crash or a full disk does to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shim.errors import OutOfRange, ResourceExhausted
from shim.grpc_api import event_log
from shim.grpc_api.event_log import KEPT, SEGMENT, EventLog
from shim.grpc_api.known import Known
from shim.proto.first_api_pb2 import Event
from shim.store.storage import FileStorage


@asynccontextmanager
async def opened(directory: Path, storage=None):
    log = EventLog(storage or FileStorage(directory), Known())
    await log.open()
    try:
        yield log
    finally:
        await log.close(5)


async def told(log: EventLog, pids) -> int:
    """Starts of as many containers are stored; returns the last number."""
    number = 0
    for pid in pids:
        number = log.append(Event(type="start-container", id=f"c{pid}", pid=pid), f"key {pid}")
    await log.stored(number)
    return number


async def pids_of(log: EventLog, after: int | None, count: int) -> list[int]:
    reader = log.reader(after, lambda: None)
    found = [Event.FromString(await reader.next()).pid for _ in range(count)]
    log.forget(reader)
    return found


async def test_numbers_begin_with_1_and_have_no_gap(tmp_path):
    async with opened(tmp_path) as log:
        assert (log.first, log.last) == (1, 0)
        assert [log.append(Event(type="oom", id="c"), f"{n}") for n in range(3)] == [1, 2, 3]
        assert log.last == 0, "nobody has it before it is stored"
        await log.stored(3)
        assert (log.first, log.last) == (1, 3)


@pytest.mark.parametrize("count", [1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 7])
async def test_all_is_there_again_after_a_restart(tmp_path, count):
    async with opened(tmp_path) as log:
        await told(log, range(count))
    async with opened(tmp_path) as log:
        assert (log.first, log.last) == (1, count)
        assert await pids_of(log, 0, count) == list(range(count))
        assert log.number_of("key 0") == 1
        assert log.append(Event(type="oom", id="c"), "more") == count + 1
        await log.stored(count + 1)


async def test_a_restart_after_each(tmp_path):
    """Each comes to a log that has just been read: segments are continued as well as begun."""
    for pid in range(2 * SEGMENT + 3):
        async with opened(tmp_path) as log:
            assert await told(log, [pid]) == pid + 1
    async with opened(tmp_path) as log:
        assert await pids_of(log, 0, 2 * SEGMENT + 3) == list(range(2 * SEGMENT + 3))


async def test_the_last_thousand_are_kept_and_no_more(tmp_path):
    count = KEPT + 5 * SEGMENT + 3
    async with opened(tmp_path) as log:
        await told(log, range(count))
        first = count - KEPT + 1
        assert (log.first, log.last) == (first, count)
        assert log.number_of("key 0") is None
        assert await pids_of(log, first - 1, KEPT) == list(range(first - 1, count))
        assert await pids_of(log, 0, KEPT) == list(range(first - 1, count)), "0: all that are kept"
        with pytest.raises(OutOfRange, match="not after 1:"):
            log.reader(1, lambda: None)
    assert len(list((tmp_path / "events").glob("*.json"))) <= KEPT // SEGMENT + 2
    async with opened(tmp_path) as log:
        assert (log.first, log.last) == (first, count)
        assert log.number_of(f"key {count - 1}") == count
        assert log._known.get("c0").pid == 0
        assert len(list(log._known)) == count, "what has not ended is known, however long ago it began"


@pytest.mark.parametrize("after", [-1, 4, 1 << 70])
async def test_what_is_not_kept_cannot_be_had(tmp_path, after):
    async with opened(tmp_path) as log:
        await told(log, range(3))
        with pytest.raises(OutOfRange, match=f"not after {after}"):
            log.reader(after, lambda: None)


async def test_a_reader_waits_for_what_comes(tmp_path):
    async with opened(tmp_path) as log:
        await told(log, range(3))
        readers = [
            asyncio.create_task(pids_of(log, after, count)) for after, count in ((None, 2), (1, 4), (3, 2))
        ]
        await asyncio.sleep(0)
        await told(log, [3, 4])
        assert await asyncio.gather(*readers) == [[3, 4], [1, 2, 3, 4], [3, 4]]


async def test_who_falls_behind_is_told_once(tmp_path):
    cut = []
    async with opened(tmp_path) as log:
        slow = log.reader(None, lambda: cut.append("slow"))
        quick = log.reader(None, lambda: cut.append("quick"))
        await told(log, range(KEPT))
        assert not slow.cut
        for _ in range(KEPT):
            await quick.next()
        await told(log, range(KEPT, KEPT + 2))
        assert (cut, slow.cut, quick.cut) == (["slow"], True, False)
        await told(log, range(KEPT + 2, KEPT + 4))
        assert cut == ["slow"]


async def test_who_reads_is_not_left_behind_by_a_storm(tmp_path):
    """One reads, with a turn of the loop for each; the other does not, and holds nobody up for long."""
    count = 2 * KEPT + 1
    async with opened(tmp_path) as log:
        cut = []
        log.reader(None, lambda: cut.append("idle"))
        reader = log.reader(None, lambda: cut.append("reads"))

        async def read_all() -> None:
            for number in range(count):
                assert Event.FromString(await reader.next()).pid == number
                await asyncio.sleep(0.0002)

        reading = asyncio.create_task(read_all())
        await told(log, range(count))
        await reading
    assert cut == ["idle"]


async def test_a_full_disk_is_waited_for(tmp_path, monkeypatch, caplog):
    """Nothing is published that is not stored, and nothing is lost."""
    monkeypatch.setattr(event_log, "_RETRY_S", 0.001)
    failures = iter(
        [
            ResourceExhausted("no space left"),
            RuntimeError("a storage of others"),
            ResourceExhausted("…"),
            None,
        ]
    )

    class Full(FileStorage):
        def save(self, key, value):
            if error := next(failures, None):
                assert log.last == 0
                raise error
            super().save(key, value)

    async with opened(tmp_path, Full(tmp_path)) as log:
        await told(log, range(3))
        assert log.last == 3
    assert caplog.text.count("cannot be stored") == 1
    async with opened(tmp_path) as log:
        assert await pids_of(log, 0, 3) == [0, 1, 2]


async def test_a_crash_between_two_writes(tmp_path):
    """The head names a segment that was never written."""
    async with opened(tmp_path) as log:
        await told(log, range(SEGMENT))
    FileStorage(tmp_path).save("events/head", {"segment": 1})
    async with opened(tmp_path) as log:
        assert (log.first, log.last) == (1, SEGMENT)
        assert await told(log, [SEGMENT]) == SEGMENT + 1
    async with opened(tmp_path) as log:
        assert await pids_of(log, 0, SEGMENT + 1) == list(range(SEGMENT + 1))


@pytest.mark.parametrize(
    ("broken", "first", "last"), [(0, SEGMENT + 1, 3 * SEGMENT), (2, 3 * SEGMENT + 1, 3 * SEGMENT)]
)
async def test_what_is_broken_is_left_out_and_no_number_given_twice(tmp_path, caplog, broken, first, last):
    async with opened(tmp_path) as log:
        await told(log, range(3 * SEGMENT))
    (tmp_path / "events" / f"{broken}.json").write_text("{")
    async with opened(tmp_path) as log:
        assert (log.first, log.last) == (first, last)
        assert await told(log, [7000]) == last + 1
    assert "are lost" in caplog.text
    async with opened(tmp_path) as log:
        assert log.last == last + 1
        assert await pids_of(log, last, 1) == [7000]
