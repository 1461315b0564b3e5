"""A daemon as a process, with its gate, for those who come to the gRPC API from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemons import DaemonProcess

from shim.containers import removal
from shim.containers.containers import Containers


@pytest.fixture
def daemon(state_root: Path) -> Iterator[DaemonProcess]:
    """It runs; its containers are removed at the end."""
    folder = state_root / "d"
    folder.mkdir()
    daemon = DaemonProcess(folder)
    try:
        yield daemon.start()
        for container in Containers(str(folder)).all():
            removal.remove(container, force=True)
    finally:
        daemon.close()
