"""Out-of-memory kills in containers, told as they happen and counted for sure at the end.

One ``OomWatcher`` serves all containers of a shim: one epoll descriptor in the event loop, one or two descriptors a
container, no inotify (128 instances a user), no threads.

cgroup v2: memory.events of the group. The kernel counts a kill (``oom_kill``) in the group of the *victim* and in all
groups above it, wherever the limit was that ran out; ``oom`` counts at the limit. So the group's own file is right with
a limit on the pod alone, too, and the parent's would count the neighbours. Only a group without the memory controller
has no such file; its processes are charged to the nearest group above that has one, and that one's
memory.events.local counts kills among those processes alone. The file is watched for priority events; see
``populated.py`` for why that takes an epoll descriptor inside the loop's own.

cgroup v1: an eventfd, registered in cgroup.event_control for memory.oom_control. It fires when the group, or one above
it, runs out of memory, before anything is killed, and once more when the group is removed: it only says when to look.
The number is ``oom_kill`` in memory.oom_control. While the file says ``under_oom`` the kill is still to come, so the
watcher looks again a little later.

Source: kernel Documentation/admin-guide/cgroup-v2.rst, "memory.events"; cgroup-v1/memory.rst, "OOM Control";
mm/oom_kill.c (__oom_kill_process), mm/memcontrol-v1.c.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shim.cgroup import legacy_stats
from shim.cgroup.group import Group
from shim.cgroup.tree import GONE, write_file
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from shim.cgroup.legacy import LegacyGroup

__all__ = ["OomWatcher"]

_LOOK_AGAIN_S = (0.01, 0.05, 0.2, 1.0)
"""When to look again while a v1 group is out of memory; with its OOM killer disabled it may stay so for ever."""


class _Counter(Protocol):
    """An open file that counts the kills of one container, and a descriptor that tells when to read it."""

    events: int
    settled: bool
    """False when a kill may follow of which nothing will tell."""

    def fileno(self) -> int: ...
    def read(self) -> int | None: ...
    def close(self) -> None: ...


class _UnifiedCounter:
    """Takes ownership of ``file``, memory.events or memory.events.local."""

    events = select.EPOLLPRI
    settled = True

    def __init__(self, file: OwnedFd) -> None:
        self._file = file

    @classmethod
    def of(cls, group: Group) -> _UnifiedCounter | None:
        if not group.exists():
            return None
        directory, name = group.directory, "memory.events"
        while directory != group.mount_point:
            with suppress(FileNotFoundError):
                return cls(_open(f"{directory}/{name}"))
            directory, name = directory.rpartition("/")[0], "memory.events.local"
        return None

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self) -> int | None:
        """The kills up to now; None once the group is removed."""
        words = _content(self._file).split()
        return int(words[words.index(b"oom_kill") + 1]) if words else None

    def close(self) -> None:
        self._file.close()


class _LegacyCounter:
    """Takes ownership of ``file``, memory.oom_control, and of the eventfd ``trigger`` that is registered for it."""

    events = select.EPOLLIN

    def __init__(self, file: OwnedFd, trigger: OwnedFd) -> None:
        self._file = file
        self._trigger = trigger
        self.settled = True

    @classmethod
    def of(cls, group: LegacyGroup) -> _LegacyCounter | None:
        directory = group.directories.get("memory")
        if directory is None:
            return None
        trigger = OwnedFd(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        try:
            file = _open(f"{directory}/memory.oom_control")
        except FileNotFoundError:
            trigger.close()
            return None
        try:
            write_file(f"{directory}/cgroup.event_control", f"{trigger.fileno()} {file.fileno()}")
        except OSError as error:
            file.close()
            trigger.close()
            if error.errno in GONE:
                return None
            raise
        return cls(file, trigger)

    def fileno(self) -> int:
        return self._trigger.fileno()

    def read(self) -> int | None:
        """The kills up to now; None once the group is removed."""
        with suppress(BlockingIOError):
            os.read(self._trigger.fileno(), 8)
        content = _content(self._file)
        if not content:
            return None
        control = legacy_stats.oom_control(content)
        self.settled = not control.under_oom
        return control.oom_kill

    def close(self) -> None:
        self._file.close()
        self._trigger.close()


def _open(path: str) -> OwnedFd:
    return OwnedFd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def _content(file: OwnedFd) -> bytes:
    try:
        return os.pread(file.fileno(), 4096, 0)
    except OSError as error:
        if error.errno in GONE:
            return b""
        raise


@dataclass(slots=True, eq=False)
class _Watch:
    counter: _Counter
    callback: Callable[[int], None]
    first: int
    last: int
    looks: int = 0
    """How often the watcher has looked since the group went out of memory."""
    timer: asyncio.TimerHandle | None = None


class OomWatcher:
    """Watches from ``add`` until ``remove`` or ``close``; used in the thread of ``loop`` only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watches: dict[str, _Watch] = {}
        self._polled: dict[int, _Watch] = {}
        loop.add_reader(self._epoll.fileno(), self._wake)

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, key: str, group: Group | LegacyGroup, callback: Callable[[int], None]) -> bool:
        """From now on ``callback(n)`` runs in the loop when ``n`` more processes of ``group`` were OOM-killed.

        False when nothing counts them: there is no memory controller, or the group is gone.

        Raises:
            ValueError: ``key`` is being watched.
            OSError: descriptors ran out.
        """
        if key in self._watches:
            raise ValueError(f"{key} is being watched already")
        counter = _UnifiedCounter.of(group) if isinstance(group, Group) else _LegacyCounter.of(group)
        if counter is None:
            return False
        kills = counter.read()
        if kills is None:
            counter.close()
            return False
        try:
            self._epoll.register(counter.fileno(), counter.events)
        except OSError:
            counter.close()
            raise
        self._watches[key] = self._polled[counter.fileno()] = _Watch(counter, callback, kills, kills)
        return True

    def remove(self, key: str) -> int:
        """The kills since ``add``, read for the last time; the callback does not run any more.

        The last known number when the group is gone, 0 when ``key`` is not watched.
        """
        watch = self._watches.pop(key, None)
        if watch is None:
            return 0
        if watch.timer:
            watch.timer.cancel()
        self._stop_polling(watch)
        kills = watch.counter.read()
        watch.counter.close()
        return (watch.last if kills is None else kills) - watch.first

    def close(self) -> None:
        """All descriptors are closed; the second time nothing happens."""
        if self._epoll.closed:
            return
        for key in list(self._watches):
            self.remove(key)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _stop_polling(self, watch: _Watch) -> None:
        if self._polled.pop(watch.counter.fileno(), None):
            self._epoll.unregister(watch.counter.fileno())

    def _wake(self) -> None:
        for fd, _ in self._epoll.poll(0):
            # A callback may have removed a watch whose event came in the same batch.
            if watch := self._polled.get(fd):
                self._look(watch)

    def _look(self, watch: _Watch) -> None:
        kills = watch.counter.read()
        if kills is None:
            # The file of a removed group reports an error for ever, which would keep the loop spinning.
            self._stop_polling(watch)
            return
        self._look_again_unless_settled(watch)
        new, watch.last = kills - watch.last, kills
        if new > 0:
            # Last: it may remove this watch.
            watch.callback(new)

    def _look_again_unless_settled(self, watch: _Watch) -> None:
        if watch.timer:
            watch.timer.cancel()
            watch.timer = None
        if watch.counter.settled:
            watch.looks = 0
        elif watch.looks < len(_LOOK_AGAIN_S):
            watch.timer = self._loop.call_later(_LOOK_AGAIN_S[watch.looks], self._look, watch)
            watch.looks += 1
