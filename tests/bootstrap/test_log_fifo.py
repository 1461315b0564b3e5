"""The shim's log on containerd's FIFO: nobody has to read it, and its lines stay whole."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.log import LineFormatter, NonBlockingHandler


class Fifo:
    """A FIFO with a handler that writes to it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.reader = -1
        self.open_reader()
        self.writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        self.handler = NonBlockingHandler(self.writer)
        self.handler.setFormatter(LineFormatter())

    def open_reader(self) -> None:
        self.reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def close_reader(self) -> None:
        os.close(self.reader)
        self.reader = -1

    def say(self, text: str) -> None:
        self.handler.handle(logging.LogRecord("shim.x", logging.INFO, "", 0, text, (), None))

    def lines(self) -> list[str]:
        data = b""
        try:
            while chunk := os.read(self.reader, 1 << 16):
                data += chunk
        except BlockingIOError:
            pass
        return data.decode().splitlines()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    fifo = Fifo(tmp_path / "log")
    yield fifo
    os.close(fifo.writer)
    if fifo.reader >= 0:
        fifo.close_reader()


def test_a_reader_that_is_stuck(fifo):
    for number in range(2000):
        fifo.say(f"line {number} {'x' * 100}")
    before = fifo.lines()
    assert len(before) < 2000
    assert all(line.endswith("logger=shim.x") for line in before)
    fifo.say("more")
    (last,) = fifo.lines()
    assert last.endswith(f"dropped_lines={2000 - len(before)}")


def test_a_reader_that_comes_back(fifo):
    fifo.close_reader()
    fifo.say("to nobody")
    fifo.open_reader()
    fifo.say("heard")
    assert [("heard" in line, "dropped_lines=1" in line) for line in fifo.lines()] == [(True, True)]
    fifo.say("again")
    assert "dropped_lines" not in fifo.lines()[0]


def test_a_line_that_fits_in_part_ends_before_the_next(fifo):
    fifo.say("x" * 200_000)
    torn = fifo.lines()
    assert len(torn) == 1
    fifo.say("next")
    empty, line = fifo.lines()
    assert empty == ""
    assert 'msg="next"' in line
    assert line.endswith("dropped_lines=1")


@pytest.mark.root
def test_a_shim_serves_whoever_reads_its_log(program, bundle):
    folder = bundle(["true"])
    os.mkfifo(folder / "log")
    keeper = os.open(folder / "log", os.O_RDWR | os.O_NONBLOCK)
    program.start(folder, "c1", program.params("c1", log_level=-8))
    pid = program.pid()
    assert not (folder / "shim.log").exists()
    assert b"serves" in os.read(keeper, 1 << 16)
    try:
        while True:  # the pipe is full
            os.write(keeper, bytes(4096))
    except BlockingIOError:
        pass
    with program.connect() as connection:
        for _ in range(3):
            connection.call("Connect", id="c1")
    os.close(keeper)
    with program.connect() as connection:
        assert connection.call("Connect", id="c1").shim_pid == pid
