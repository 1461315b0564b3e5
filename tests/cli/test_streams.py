from __future__ import annotations

import fcntl
import hashlib
import os
import select
import socket
from contextlib import suppress

import pytest

from shim.cli.detach import DetachKeys
from shim.cli.streams import FifoOutput, Input, Sink
from shim.errors import ResourceExhausted
from shim.linux.fd import OwnedFd, pipe


def _flags(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def _nonblocking_pipe():
    """Stands for a FIFO of which we have the reader."""
    reader, writer = pipe()
    os.set_blocking(reader.fileno(), False)
    return reader, writer


class Ends:
    """Two connected descriptors: ``there`` is what our stdout is, ``here`` sees what comes out of it."""

    def __init__(self, kind):
        if kind == "socket":
            self.here, self.there = (OwnedFd(end.detach()) for end in socket.socketpair())
        else:
            self.here, self.there = pipe()

    def close(self):
        self.here.close()
        self.there.close()


@pytest.fixture(params=["pipe", "socket"])
def ends(request):
    ends = Ends(request.param)
    yield ends
    ends.close()


def test_a_full_sink_takes_nothing_and_does_not_wait(ends):
    sink = Sink(ends.there.fileno())
    data = memoryview(bytes(1 << 20))
    written = 0
    while count := sink.write(data):
        written += count
    assert written > 0
    assert sink.write(data) == 0
    sink.close()


def test_the_open_file_that_others_share_stays_as_it_was(ends):
    before = _flags(ends.there.fileno())
    sink = Sink(ends.there.fileno())
    sink.write(memoryview(b"x"))
    assert _flags(ends.there.fileno()) == before
    sink.close()
    os.write(ends.there.fileno(), b"y")


def test_a_sink_that_nobody_reads_says_so(ends):
    sink = Sink(ends.there.fileno())
    ends.here.close()
    with pytest.raises(BrokenPipeError):
        sink.write(memoryview(b"x"))
    sink.close()


def test_a_file_is_written_at_the_shared_offset(tmp_path):
    with (tmp_path / "out").open("wb", buffering=0) as file:
        file.write(b"before ")
        sink = Sink(file.fileno())
        sink.write(memoryview(b"ours "))
        sink.close()
        file.write(b"after")
    assert (tmp_path / "out").read_bytes() == b"before ours after"


def test_a_full_disk_is_an_error_that_names_the_stream():
    with open("/dev/full", "wb") as full:
        sink = Sink(full.fileno())
        with pytest.raises(ResourceExhausted, match=r"descriptor \d+ cannot be written: No space left"):
            sink.write(memoryview(b"x"))
        sink.close()


def test_output_is_byte_exact_through_a_slow_reader(ends):
    """More than all buffers together, read in odd pieces: the hash is the same, and the end comes last."""
    data = os.urandom(1 << 20)
    reader, writer = _nonblocking_pipe()
    os.set_blocking(writer.fileno(), False)
    output = FifoOutput(reader, Sink(ends.there.fileno()))
    ends.there.close()
    os.set_blocking(ends.here.fileno(), False)
    rest, received = memoryview(data), hashlib.sha256()
    while True:
        try:
            piece = os.read(ends.here.fileno(), 7777)
            if not piece:
                break
            received.update(piece)
        except BlockingIOError:
            pass
        if rest:
            with suppress(BlockingIOError):
                rest = rest[os.write(writer.fileno(), rest[:10_000]) :]
        elif not writer.closed:
            writer.close()
        if not output.ended:
            output.move()
    assert output.ended
    assert received.digest() == hashlib.sha256(data).digest()


def test_output_waits_for_the_sink_only_with_a_piece_in_hand(ends):
    reader, writer = _nonblocking_pipe()
    sink = Sink(ends.there.fileno())
    while sink.write(memoryview(bytes(4096))):
        pass
    output = FifoOutput(reader, sink)
    assert output.interest() == (reader.fileno(), select.POLLIN)
    assert not output.move()
    os.write(writer.fileno(), b"piece")
    output.move()
    assert output.holds
    assert output.interest()[1] == select.POLLOUT
    output.discard()
    assert not output.holds
    output.close()
    writer.close()


def test_discarded_output_is_still_read():
    reader, writer = _nonblocking_pipe()
    out_reader, out_writer = pipe()
    output = FifoOutput(reader, Sink(out_writer.fileno()))
    out_reader.close()
    os.write(writer.fileno(), b"x")
    with pytest.raises(BrokenPipeError):
        output.move()
    output.discard()
    os.write(writer.fileno(), b"x")
    assert output.move()
    writer.close()
    output.move()
    assert output.ended
    out_writer.close()


def test_input_goes_on_until_its_end():
    source_reader, source_writer = pipe()
    reader, writer = _nonblocking_pipe()
    stdin = Input(source_reader.fileno(), writer, None)
    os.write(source_writer.fileno(), b"abc")
    stdin.move()
    assert os.read(reader.fileno(), 10) == b"abc"
    source_writer.close()
    stdin.move()
    assert stdin.ended
    assert os.read(reader.fileno(), 10) == b""
    reader.close()
    source_reader.close()


def test_a_process_that_closed_its_stdin_ends_the_input():
    source_reader, source_writer = pipe()
    reader, writer = pipe()
    reader.close()
    stdin = Input(source_reader.fileno(), writer, None)
    os.write(source_writer.fileno(), b"abc")
    stdin.move()
    assert stdin.ended
    source_reader.close()
    source_writer.close()


def test_input_that_does_not_fit_is_held():
    source_reader, source_writer = pipe()
    reader, writer = pipe()
    os.set_blocking(writer.fileno(), False)
    stdin = Input(source_reader.fileno(), writer, None)
    sent = 0
    while stdin.interest()[0] == source_reader.fileno():
        os.write(source_writer.fileno(), bytes(50_000))
        sent += 50_000
        stdin.move()
    got = 0
    source_writer.close()
    while chunk := os.read(reader.fileno(), 1 << 20):
        got += len(chunk)
        if not stdin.ended:
            stdin.move()
    assert got == sent
    reader.close()
    source_reader.close()


def test_detach_keys_are_not_input():
    source_reader, source_writer = pipe()
    reader, writer = _nonblocking_pipe()
    stdin = Input(source_reader.fileno(), writer, DetachKeys(b"\x10\x11"))
    os.write(source_writer.fileno(), b"ls\n\x10\x11")
    stdin.move()
    assert stdin.detached
    assert os.read(reader.fileno(), 10) == b"ls\n"
    stdin.close()
    for end in (reader, source_reader, source_writer):
        end.close()
