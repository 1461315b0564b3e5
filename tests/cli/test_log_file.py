from __future__ import annotations

import os
import select

import pytest

from shim.cli.log_file import LogOutput
from shim.cli.streams import Sink, copy_out
from shim.errors import NotFound
from shim.linux.fd import pipe


@pytest.fixture
def sink():
    reader, writer = pipe()
    os.set_blocking(reader.fileno(), False)
    yield reader, Sink(writer.fileno())
    reader.close()
    writer.close()


def _read(reader):
    try:
        return os.read(reader.fileno(), 1 << 20)
    except BlockingIOError:
        return b""


def _settle(output):
    """Move until there is nothing at hand; then nothing is to be done before the file changes."""
    while output.move():
        pass
    poll = select.poll()
    poll.register(*output.interest())
    assert poll.poll(0) == []


def test_what_is_there_and_what_comes_is_passed_on(tmp_path, sink):
    reader, out = sink
    log = tmp_path / "log"
    log.write_bytes(b"old ")
    output = LogOutput(str(log), out)
    _settle(output)
    with log.open("ab", buffering=0) as file:
        for piece in (b"new ", b"newer "):
            file.write(piece)
            assert select.select([output.interest()[0]], [], [], 10)[0]
            _settle(output)
    assert _read(reader) == b"old new newer "
    output.writer_ended()
    output.move()
    assert output.ended


def test_from_its_end_only_what_comes_is_passed_on(tmp_path, sink):
    reader, out = sink
    log = tmp_path / "log"
    log.write_bytes(b"old ")
    output = LogOutput(str(log), out, from_end=True)
    with log.open("ab") as file:
        file.write(b"new")
    _settle(output)
    assert _read(reader) == b"new"
    output.close()


def test_a_file_that_was_cut_is_read_from_its_beginning(tmp_path, sink):
    reader, out = sink
    log = tmp_path / "log"
    log.write_bytes(b"something long")
    output = LogOutput(str(log), out)
    _settle(output)
    log.write_bytes(b"cut")
    _settle(output)
    assert _read(reader) == b"something longcut"
    output.close()


def test_a_file_that_was_renamed_is_still_followed(tmp_path, sink):
    reader, out = sink
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as file:
        output = LogOutput(str(log), out)
        log.rename(tmp_path / "log.1")
        file.write(b"more")
        _settle(output)
    assert _read(reader) == b"more"
    output.close()


def test_a_whole_file_is_copied_out(tmp_path, sink):
    reader, out = sink
    log = tmp_path / "log"
    log.write_bytes(b"x" * 50_000)
    copy_out(LogOutput(str(log), out))
    assert _read(reader) == b"x" * 50_000


def test_a_missing_file_is_an_error_that_names_it(tmp_path, sink):
    with pytest.raises(NotFound, match=f"log file {tmp_path}/none cannot be read"):
        LogOutput(str(tmp_path / "none"), sink[1])
