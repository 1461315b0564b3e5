"""Daemons with the sample image: one for a module of tests, or one for a test that kills it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import bed
from support.containerd import Containerd
from support.mounts import unmount_below


@contextmanager
def running(disk: Path) -> Iterator[Containerd]:
    bed.need(shutil.which("containerd"), "containerd is not installed: apt-get install containerd")
    folder = Path(tempfile.mkdtemp(prefix="ocd-", dir="/run"))
    containerd = Containerd(folder, disk)
    try:
        containerd.start()
        containerd.import_image()
        yield containerd
    finally:
        containerd.close()
        unmount_below(folder)
        unmount_below(disk)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """Runs for a whole module, and has the image."""
    with running(tmp_path_factory.mktemp("containerd")) as containerd:
        yield containerd


@pytest.fixture
def own_daemon(leaks: None, tmp_path: Path) -> Iterator[Containerd]:
    """For one test, which may kill it and start it again."""
    with running(tmp_path) as containerd:
        yield containerd


@pytest.fixture
def settled(daemon: Containerd, leaks: None) -> Iterator[None]:
    """The test leaves no task, no shim, and nothing that ``leaks`` counts."""
    yield
    assert daemon.ctr("task", "list", "-q").stdout.split() == []
    bed.until(lambda: not daemon.shims(), "the shims have not ended")
