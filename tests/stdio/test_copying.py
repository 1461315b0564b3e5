"""asyncio's side of the relay."""

from __future__ import annotations

import os

import pytest
from support.coroutines import until
from support.streams import relay_threads

from shim.linux.fd import OwnedFd, pipe
from shim.linux.mounts import mount, umount2


async def test_a_stream_ends_after_its_source(rig):
    (source, writer), (reader, sink) = pipe(), pipe()
    with reader:
        stream = rig.copier.copy("a", source, sink)
        assert len(rig.copier) == 1
        assert source.closed
        assert sink.closed
        os.write(writer.fileno(), b"bytes")
        writer.close()
        await stream.wait_ended()
        assert (stream.ended, stream.copied, stream.dropped) == (True, 5, 0)
        assert len(rig.copier) == 0
        assert os.read(reader.fileno(), 10) == b"bytes"
    stream.finish()
    stream.cancel()


async def test_what_cannot_be_copied_between_is_closed(rig):
    (source, writer), (reader, sink) = pipe(), pipe()
    with source, sink, pytest.raises(OSError, match="Bad file descriptor"):
        rig.copier.copy("wrong way round", writer, reader)
    assert writer.closed
    assert reader.closed
    assert len(rig.copier) == 0


async def test_closed_descriptors_are_refused(rig):
    source, sink = pipe()
    sink.close()
    with pytest.raises(ValueError, match="closed"):
        rig.copier.copy("half", source, sink)
    assert source.closed


async def test_a_relay_that_cannot_be_had_takes_nothing_with_it(rig, monkeypatch):
    def fail():
        raise OSError(24, "Too many open files")

    source, sink = pipe()
    monkeypatch.setattr("shim.stdio.copying.Relay", fail)
    with pytest.raises(OSError, match="Too many"):
        rig.copier.copy("none", source, sink)
    assert source.closed
    assert sink.closed
    rig.copier.close()


async def test_close_ends_every_stream_and_counts_what_it_held(rig):
    (source, writer), (reader, sink) = pipe(), pipe()
    with writer, reader, OwnedFd(os.open("/dev/full", os.O_WRONLY)) as full:
        idle = rig.copier.copy("idle", source, sink)
        source, held_writer = pipe()
        with held_writer:
            os.write(held_writer.fileno(), b"held")
            stuck = rig.copier.copy("stuck", source, full)
            await until(lambda: stuck.stalled_errno)
            rig.copier.close()
            await idle.wait_ended()
            await stuck.wait_ended()
        assert os.read(reader.fileno(), 1) == b""
    assert idle.dropped == 0
    assert len(rig.copier) == 0
    for stream in (idle, stuck):
        stream.finish()
        stream.cancel()
    rig.copier.close()


async def test_a_failing_sink_and_its_recovery_are_told(rig, caplog):
    caplog.set_level("INFO", "shim.stdio")
    path = rig.fifo("out")
    with OwnedFd(os.open(path, os.O_RDWR)):
        sink = OwnedFd(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    source, writer = pipe()
    stream = rig.copier.copy("box stdout", source, sink)
    os.write(writer.fileno(), b"kept")
    await until(lambda: stream.stalled_errno)
    with OwnedFd(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as reader:
        await until(lambda: stream.stalled_errno is None)
        assert os.read(reader.fileno(), 10) == b"kept"
        writer.close()
        await stream.wait_ended()
    assert [record.getMessage() for record in caplog.records] == [
        "box stdout cannot be written, it is tried again: Broken pipe",
        "box stdout can be written again",
    ]


async def test_a_broken_way_into_a_process_ends_the_stream(rig, caplog):
    (source, writer), (reader, sink) = pipe(), pipe()
    reader.close()
    with writer:
        stream = rig.copier.copy("box stdin", source, sink, to_process=True)
        os.write(writer.fileno(), b"unwanted")
        await stream.wait_ended()
    assert stream.dropped == len("unwanted")
    assert caplog.text == ""


async def test_an_end_with_an_error_is_told(rig, caplog):
    master, slave = (OwnedFd(fd) for fd in os.openpty())
    slave.close()
    reader, sink = pipe()
    with reader, OwnedFd(os.open("/proc/self/mem", os.O_RDONLY)) as source:
        stream = rig.copier.copy("box odd", source, sink)
        await stream.wait_ended()
    master.close()
    assert "box odd ended with an error: " in caplog.text


@pytest.mark.root
async def test_the_files_of_each_file_system_have_a_thread_as_long_as_there_are_streams(rig, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    mount("none", str(other), "tmpfs", 0)
    before = relay_threads()
    try:
        sinks = [OwnedFd(os.open(folder / "log", os.O_WRONLY | os.O_CREAT)) for folder in (tmp_path, other)]
        (source, writer), (other_source, other_writer) = pipe(), pipe()
        streams = [rig.copier.copy("a", source, sinks[0]), rig.copier.copy("b", other_source, sinks[1])]
        assert relay_threads() == before + 2
        os.write(writer.fileno(), b"a")
        os.write(other_writer.fileno(), b"bb")
        for end in (writer, other_writer):
            end.close()
        for stream in streams:
            await stream.wait_ended()
        assert relay_threads() == before
        assert (tmp_path / "log").read_bytes() + (other / "log").read_bytes() == b"abb"
    finally:
        umount2(str(other), 0)


async def test_a_file_that_cannot_be_written_leaves_no_thread(rig, tmp_path):
    before = relay_threads()
    file = OwnedFd(os.open(tmp_path / "log", os.O_RDONLY | os.O_CREAT))
    source, writer = pipe()
    with writer, pytest.raises(OSError, match="Bad file descriptor"):
        rig.copier.copy("a", source, file)
    assert relay_threads() == before
