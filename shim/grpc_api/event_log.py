"""The last events, numbered from 1 without a gap, in memory and in the storage, and everybody who reads along.

Order: an event is stored, then readers get it, and whoever appended it hears that it is kept. Events that come while others
are being stored are stored together, by one call in a thread: however many come, the loop waits for no disk.

    <place>/head        the number of the newest segment
    <place>/<segment>   SEGMENT events, what was known before the first of them, and the key by which each is told apart

A segment is written whole whenever an event comes into it, so the storage needs no more than its three verbs. Segments
that are older than the last ``KEPT`` events are deleted.

Readers have no queue of their own: each has its place in the one that all share, and one that has fallen behind by more
than ``KEPT`` is told so instead of the next event. That those who do read are not left behind by a storm of events, the next
are stored a little later while one of them has half of that to catch up; a shim waits meanwhile, and a container does not.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode, b64encode
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from shim.errors import DataLoss, NotFound, OutOfRange
from shim.process.thread import in_thread
from shim.proto.first_api_pb2 import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.grpc_api.known import Known
    from shim.store.storage import Storage

__all__ = ["KEPT", "SEGMENT", "EventLog", "Reader"]

KEPT = 1000
"""Events that can be had again."""
SEGMENT = 50

_RETRY_S = 1.0
_PATIENCE_S = 0.5

_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    key: str
    body: bytes
    """The serialized Event: once for all readers."""


class Reader:
    """A place in the log. ``on_cut`` is called once, when it has fallen behind too far."""

    def __init__(self, log: EventLog, after: int, on_cut: Callable[[], None]) -> None:
        self._log = log
        self._after = after
        self._on_cut = on_cut
        self.cut = False

    @property
    def following(self) -> int:
        """The number of the event that is next."""
        return self._after + 1

    async def next(self) -> bytes:
        """The next event, serialized, once there is one."""
        while self._after >= self._log.last:
            await self._log.grown()
        self._after += 1
        return self._log.body(self._after)

    @property
    def behind(self) -> int:
        """How many events it has to catch up."""
        return self._log.last - self._after

    def check(self, first: int) -> None:
        """The log now begins with ``first``."""
        if not self.cut and self._after + 1 < first:
            self.cut = True
            self._on_cut()


class EventLog:
    """Use ``open`` first, and ``close`` at the end. ``known`` is kept as the events say, from disk as well."""

    def __init__(self, storage: Storage, known: Known, place: str = "events") -> None:
        """``place``: below which name in the storage."""
        self._storage = storage
        self._place = place
        self._known = known
        self._kept: deque[_Entry] = deque()
        self._segment: list[_Entry] = []
        self._known_before: dict[int, dict[str, Any]] = {}
        self._fresh: list[_Entry] = []
        self._numbers: dict[str, int] = {}
        self._appended = 0
        self._writer: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._readers: set[Reader] = set()
        self.last = 0
        """The number of the newest event that is stored, and that readers can have."""

    @property
    def first(self) -> int:
        """The number of the oldest event that readers can have, or of the next one where there is none."""
        return self.last - len(self._kept) + 1

    # From and to disk.

    async def open(self) -> None:
        """What was stored is here again.

        Raises:
            ShimError: it cannot be read. What is broken is not: it is left out, with what is older, and the log says so.
        """
        self.last, segments = await in_thread(self._load)
        for record in segments:
            number, self._segment = record["number"], [_entry(data) for data in record["events"]]
            self._known_before = {number: record["known"]}
            self._known.restore(record["known"])
            for entry in self._segment:
                self._known.apply(Event.FromString(entry.body))
            self._kept.extend(self._segment)
            self.last = number * SEGMENT + len(self._segment)
        self._appended = self.last
        self._numbers = {entry.key: self.first + index for index, entry in enumerate(self._kept)}
        self._trim()

    def _load(self) -> tuple[int, list[dict[str, Any]]]:
        """The number of the last event where no segment says it, and the segments, oldest first."""
        try:
            newest = int(self._storage.load(self._name("head"))["segment"])
        except NotFound:
            return 0, []
        found: list[dict[str, Any]] = []
        for number in range(newest, max(-1, newest - KEPT // SEGMENT - 1), -1):
            try:
                found.insert(0, {"number": number, **self._storage.load(self._name(number))})
            except NotFound:
                # The head is written before its segment, and after a crash there may be no event in that yet.
                if number < newest:
                    break
            except DataLoss as error:
                _log.error(
                    "events %d to %d are lost: %s", number * SEGMENT + 1, (number + 1) * SEGMENT, error
                )
                # Their numbers are not given again.
                return (newest + 1) * SEGMENT, found
        return newest * SEGMENT, found

    async def _write(self) -> None:
        """Everything that is fresh is stored, then everything that has come meanwhile, and so on."""
        while self._fresh:
            if not self.last % SEGMENT:
                self._segment = []
            batch = self._fresh[: SEGMENT - len(self._segment)]
            await self._store_stubbornly(self.last // SEGMENT, [*self._segment, *batch])
            del self._fresh[: len(batch)]
            self._segment += batch
            self._publish(batch)
            await self._let_them_read()
        self._writer = None

    async def _let_them_read(self) -> None:
        """No reader that reads is far behind, or ``_PATIENCE_S`` is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while before := {r: r.behind for r in self._readers if r.behind > KEPT // 2 and not r.cut}:
                    await asyncio.sleep(_PATIENCE_S / 20)
                    if all(reader.behind >= behind for reader, behind in before.items()):
                        return

    async def _store_stubbornly(self, number: int, entries: list[_Entry]) -> None:
        complained = False
        while True:
            try:
                await in_thread(self._store, number, entries)
            except Exception as error:  # noqa: BLE001 - a storage may be anybody's
                # Shims keep what is not taken, and send it again: nothing is lost by waiting.
                if not complained:
                    _log.error("events cannot be stored, and wait: %s", error)
                    complained = True
                await asyncio.sleep(_RETRY_S)
            else:
                if complained:
                    _log.info("events are stored again")
                return

    def _store(self, number: int, entries: list[_Entry]) -> None:
        if not self._segment:
            self._storage.save(self._name("head"), {"segment": number})
        events = [{"key": e.key, "event": b64encode(e.body).decode()} for e in entries]
        self._storage.save(self._name(number), {"known": self._known_before[number], "events": events})
        if not self._segment and number > KEPT // SEGMENT:
            self._storage.delete(self._name(number - KEPT // SEGMENT - 1))

    def _name(self, segment: int | str) -> str:
        return f"{self._place}/{segment}"

    # In and out.

    def append(self, event: Event, key: str) -> int:
        """The number of ``event``, which comes after all that were appended before it. ``stored`` tells when it is safe."""
        if not self._appended % SEGMENT:
            self._known_before[self._appended // SEGMENT] = self._known.to_data()
        self._known.apply(event)
        self._appended += 1
        self._numbers[key] = self._appended
        self._fresh.append(_Entry(key, event.SerializeToString()))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return self._appended

    def number_of(self, key: str) -> int | None:
        """The number of the event that was appended with that key, if it is among the last."""
        return self._numbers.get(key)

    async def stored(self, number: int) -> None:
        """The event of that number outlives us."""
        while self.last < number:
            await self.grown()

    async def settled(self) -> None:
        """Everything that was appended up to now outlives us."""
        await self.stored(self._appended)

    def _publish(self, batch: list[_Entry]) -> None:
        self._kept.extend(batch)
        self.last += len(batch)
        self._trim()
        for reader in list(self._readers):
            reader.check(self.first)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _trim(self) -> None:
        while len(self._kept) > KEPT:
            self._numbers.pop(self._kept.popleft().key, None)
        for number in [n for n in self._known_before if n < self.last // SEGMENT]:
            del self._known_before[number]

    async def grown(self) -> None:
        """There is an event more than there was."""
        await self._changed.wait()

    def body(self, number: int) -> bytes:
        """The serialized event of that number, which must be one that is kept."""
        return self._kept[number - self.first].body

    def reader(self, after: int | None, on_cut: Callable[[], None]) -> Reader:
        """A reader that begins with the event after the one of number ``after``.

        0: with the oldest that is kept, whatever its number; None: with the next that comes.

        To be given to ``forget`` at the end.

        Raises:
            OutOfRange: that event is not kept any more, or has not come yet.
        """
        if after == 0:
            after = self.first - 1
        if after is not None and not self.first - 1 <= after <= self.last:
            raise OutOfRange(
                f"events can be had after number {self.first - 1} to {self.last}, not after {after}: what is older is gone"
            )
        reader = Reader(self, self.last if after is None else after, on_cut)
        self._readers.add(reader)
        return reader

    def forget(self, reader: Reader) -> None:
        """``reader`` is not used any more."""
        self._readers.discard(reader)

    async def close(self, timeout_s: float) -> None:
        """What was appended is stored, or ``timeout_s`` is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.settled()
        if self._writer is not None:
            self._writer.cancel()
            with suppress(asyncio.CancelledError):
                await self._writer


def _entry(data: dict[str, Any]) -> _Entry:
    return _Entry(str(data["key"]), b64decode(data["event"]))
