from __future__ import annotations

import asyncio
import os

import pytest

from shim.grpc_api import unread
from shim.grpc_api.unread import until_read
from shim.linux.fd import OwnedFd


@pytest.fixture
def fifo(tmp_path):
    """A FIFO that somebody holds open, as a shim does, and into which something was written."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with OwnedFd(os.open(path, os.O_RDWR | os.O_NONBLOCK)) as fd:
        os.write(fd.fileno(), b"unread")
        yield path, fd.fileno()


async def test_it_waits_for_who_comes_late(fifo):
    path, fd = fifo
    waiting = asyncio.create_task(until_read([str(path), ""]))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert os.read(fd, 100) == b"unread"
    await waiting


async def test_who_never_comes_is_not_waited_for_for_ever(fifo, monkeypatch):
    path, fd = fifo
    monkeypatch.setattr(unread, "_PATIENCE_S", 0.1)
    await until_read([str(path)])
    assert os.read(fd, 100) == b"unread"


async def test_there_is_nothing_to_wait_for_elsewhere(tmp_path):
    (tmp_path / "file").write_text("read it when you like")
    await until_read([str(tmp_path / "file"), str(tmp_path / "missing"), "", "/dev/null"])
