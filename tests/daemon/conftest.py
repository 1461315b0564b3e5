from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from support.daemons import DaemonProcess


class MakeDaemon(Protocol):
    def __call__(self, *lines: str) -> DaemonProcess: ...


@pytest.fixture
def make_daemon(state_root: Path) -> Iterator[MakeDaemon]:
    """Makes daemons, not started yet, in folders of their own."""
    made: list[DaemonProcess] = []

    def make(*lines: str) -> DaemonProcess:
        folder = state_root / str(len(made))
        folder.mkdir()
        made.append(DaemonProcess(folder, *lines))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> DaemonProcess:
    """A daemon that runs, with the HTTP API alone."""
    return make_daemon("grpc = false").start()
