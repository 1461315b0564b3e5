"""Where the streams of a process lead, and that they arrive whole."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import stat
from pathlib import Path

import pytest
from support.coroutines import until
from support.streams import client_reads, client_writes, rest_of, take, take_all

from shim.errors import FailedPrecondition, NotFound
from shim.linux.fd import OwnedFd, pipe
from shim.stdio import Streams


def targets(pid):
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]


async def test_no_stream_is_dev_null(rig):
    io = rig.io(Streams())
    child = await rig.run(io, "read x; echo out; echo err >&2; exec sleep 1000")
    await until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
    assert targets(child.pid) == ["/dev/null"] * 3
    # Nothing else, once its libraries are loaded.
    await until(lambda: os.listdir(f"/proc/{child.pid}/fd") == ["0", "1", "2"])
    assert len(rig.copier) == 0


async def test_fifos(rig):
    streams = Streams(rig.fifo("in"), rig.fifo("out"), "fifo://" + rig.fifo("err"))
    with client_reads(streams.stdout) as out, client_reads(f"{rig.folder}/err") as err:
        io = rig.io(streams)
        child = await rig.run(io, "cat; echo problem >&2; exit 3")
        with client_writes(streams.stdin) as stdin:
            os.write(stdin.fileno(), b"some input\n")
        assert await take(out, 11) == b"some input\n"
        io.close_stdin()
        assert await take_all(out) == b""
        assert await take_all(err) == b"problem\n"
    assert (await child.wait()).status == 3
    await io.drain()
    assert io.stream_states() == [
        {"name": f"box {name}", "ended": True, "stalled_errno": None, "hangs_s": 0.0, "dropped": 0}
        for name in ("stdin", "stdout", "stderr")
    ]


@pytest.mark.parametrize("only", ["stdout", "stderr"])
async def test_one_output_alone(rig, only):
    path = rig.fifo(only)
    with client_reads(path) as reader:
        io = rig.io(Streams(**{only: path}))
        child = await rig.run(io, "echo stdout; echo stderr >&2")
        assert await take_all(reader) == f"{only}\n".encode()
        await child.wait()


async def test_an_existing_file_is_appended_to(rig):
    file = rig.folder / "log"
    file.write_text("before\n")
    io = rig.io(Streams(stdout=str(file)))
    await (await rig.run(io, "echo after")).wait()
    await io.drain()
    assert file.read_text() == "before\nafter\n"


@pytest.mark.parametrize("kind", ["file", "path", "fifo"])
async def test_both_outputs_into_one_keep_their_order(rig, kind):
    file = rig.folder / ("fifo" if kind == "fifo" else "log %")
    if kind == "path":
        file.touch()
    uri = f"file://{rig.folder}/log%20%25" if kind == "file" else str(file)
    reader = client_reads(rig.fifo("fifo"))
    io = rig.io(Streams(stdout=uri, stderr=uri), fifo_timeout_s=0)
    script = "i=0; while [ $i -lt 500 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
    child = await rig.run(io, script)
    with reader:
        output = await take_all(reader) if kind == "fifo" else b""
    await child.wait()
    await io.drain()
    lines = [f"{name}{number}\n" for number in range(500) for name in "oe"]
    assert (output or file.read_bytes()).decode() == "".join(lines)
    assert [state["name"] for state in io.stream_states()] == ["box stdout and stderr"]


async def test_a_log_file_and_its_folder_are_made(rig):
    old = os.umask(0o022)
    try:
        file = rig.folder / "new" / "log"
        io = rig.io(Streams(stdout=f"file://{file}", stderr="binary:///ignored"))
        await (await rig.run(io, "echo err >&2")).wait()
        await io.drain()
    finally:
        os.umask(old)
    assert file.read_text() == "err\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755


@pytest.mark.root
async def test_pipes_belong_to_whom_they_should(rig):
    io = rig.io(Streams(rig.fifo("in"), rig.fifo("out"), rig.fifo("err")), uid=7, gid=8, fifo_timeout_s=0)
    await io.open()
    assert {(os.fstat(fd).st_uid, os.fstat(fd).st_gid) for fd in io.runtime_fds} == {(7, 8)}


async def test_names_that_are_no_text(rig):
    path = os.fsdecode(os.fsencode(rig.folder) + b"/\xff\n\x1b[31m")
    io = rig.io(Streams(stdout=path))
    with pytest.raises(NotFound):
        await io.open()
    os.mkfifo(path)
    with client_reads(path) as reader:
        await (await rig.run(rig.io(Streams(stdout=path)), "echo ok")).wait()
        assert await take_all(reader) == b"ok\n"


async def test_a_fifo_without_a_reader(rig):
    io = rig.io(Streams(stdout=rig.fifo("out")), fifo_timeout_s=0.02)
    with pytest.raises(FailedPrecondition, match=r"stdout FIFO .*/out has no reader after 0.02 s"):
        await io.open()


async def test_both_fifos_share_the_time_for_their_readers(rig):
    streams = Streams(stdout=rig.fifo("out"), stderr=rig.fifo("err"))
    io = rig.io(streams, fifo_timeout_s=5)
    loop = asyncio.get_running_loop()
    opening = asyncio.create_task(io.open())
    with pytest.MonkeyPatch.context() as patch:
        await asyncio.sleep(0)
        real = loop.time
        patch.setattr(loop, "time", lambda: real() + 4.999)
        with client_reads(streams.stdout), pytest.raises(FailedPrecondition, match="stderr FIFO"):
            await opening


async def test_a_reader_that_comes_in_time(rig):
    path = rig.fifo("out")
    running = asyncio.create_task(rig.run(rig.io(Streams(stdout=path)), "echo ok"))
    await asyncio.sleep(0)
    assert not running.done()
    with client_reads(path) as reader:
        await running
        assert await take_all(reader) == b"ok\n"


async def test_output_waits_in_the_fifo_for_a_reader(rig):
    path = rig.fifo("out")
    io = rig.io(Streams(stdout=path), fifo_timeout_s=0)
    await (await rig.run(io, "echo early")).wait()
    await io.drain()
    assert io.stream_states()[0]["ended"]
    with client_reads(path) as reader:
        assert rest_of(reader) == b"early\n"
    assert io.dropped == 0


@pytest.mark.parametrize("script", ["head -c 65536 /dev/zero", "seq 8000 | while read x; do echo $x; done"])
async def test_a_fifo_takes_all_that_it_has_room_for(rig, script):
    """In one piece or in short lines: a client that comes after the end of the process finds it there."""
    path = rig.fifo("out")
    io = rig.io(Streams(stdout=path), fifo_timeout_s=0)
    await (await rig.run(io, script)).wait()
    await until(lambda: io.stream_states()[0]["ended"])
    with client_reads(path) as reader:
        assert len(rest_of(reader)) == (65536 if "head" in script else 38893)
    assert io.dropped == 0


async def test_a_late_client_that_polls_is_let_go_by_close(rig):
    """It came after the last writer had gone, so poll(2) reports no end to it."""
    path = rig.fifo("out")
    io = rig.io(Streams(stdout=path), fifo_timeout_s=0)
    await (await rig.run(io, "echo rest")).wait()
    await io.drain()
    with client_reads(path) as reader:
        assert await take(reader, 4) == b"rest"
        await io.close()
        assert await take_all(reader) == b"\n"


async def test_a_late_client_that_waits_in_open_is_let_go_by_close(rig):
    path = rig.fifo("out")
    io = rig.io(Streams(stdout=path), fifo_timeout_s=0)
    await (await rig.run(io, "echo rest")).wait()
    await io.drain()
    source, sink = pipe()
    with source, sink, OwnedFd(os.open(os.devnull, os.O_RDWR)) as null:
        client = rig.spawn(["sh", "-c", f"echo; exec cat <{path}"], (null.fileno(), sink.fileno()))
        sink.close()
        assert await take(source, 1) == b"\n"
        stat = Path(f"/proc/{client.pid}/stat")
        await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")
        await io.close()
        assert await take_all(source) == b"rest\n"
    assert (await client.wait()).status == 0


async def test_a_reader_that_goes_away_and_comes_back_loses_nothing(rig):
    path = rig.fifo("out")
    data = random.Random(1).randbytes(4 << 20)  # more than pipes hold
    (rig.folder / "data").write_bytes(data)
    seen = b""
    io = rig.io(Streams(stdout=path), fifo_timeout_s=0)
    child = await rig.run(io, f"cat {rig.folder}/data; echo done >&2")
    for size in (1000, 1, 100_000, 4096, 1 << 18):
        with client_reads(path) as reader:
            seen += await take(reader, size)
        # Nobody reads now, and nobody is told so.
    assert child.exit is None
    with client_reads(path) as reader:
        seen += await take_all(reader)
    assert seen == data
    assert (await child.wait()).status == 0
    assert io.dropped == 0


async def test_a_slow_reader_stalls_nobody_else(rig):
    slow = rig.io(Streams(stdout=rig.fifo("slow")), fifo_timeout_s=0)
    stuck = await rig.run(slow, "head -c 1000000 /dev/zero; echo end")
    path = rig.fifo("quick")
    quick = rig.io(Streams(stdout=path), fifo_timeout_s=0)
    with client_reads(path) as reader:
        child = await rig.run(quick, "head -c 20000000 /dev/zero")
        assert len(await take_all(reader)) == 20_000_000
    assert (await child.wait()).status == 0
    assert stuck.exit is None
    with client_reads(slow.streams.stdout) as reader:
        assert (await take_all(reader))[-4:] == b"end\n"
    assert (await stuck.wait()).status == 0


@pytest.mark.slow
async def test_a_gibibyte_is_the_same_on_both_sides(rig):
    """Compared byte by byte, which is stricter than a hash and ten times as fast."""
    block = random.Random(2).randbytes(1 << 24)
    file = rig.folder / "block"
    file.write_bytes(block)
    path = rig.fifo("out")
    os.truncate(file, len(block))

    def compare(reader):
        twice, at = block + block[: 1 << 20], 0
        os.set_blocking(reader.fileno(), True)
        while chunk := os.read(reader.fileno(), 1 << 20):
            start = at % len(block)
            assert chunk == twice[start : start + len(chunk)], f"difference after byte {at}"
            at += len(chunk)
        return at

    with client_reads(path) as reader:
        io = rig.io(Streams(stdout=path))
        child = await rig.run(io, f"cat{f' {file}' * 64}")
        assert await asyncio.to_thread(compare, reader) == 1 << 30
    assert (await child.wait()).status == 0
    assert io.dropped == 0


async def test_a_full_disk_is_told_and_nothing_waits_for_ever(rig, caplog):
    io = rig.io(Streams(stdout="/dev/full"), drain_timeout_s=0.05)
    child = await rig.run(io, "echo lost words")
    await until(lambda: io.stream_states()[0]["stalled_errno"])
    assert "box stdout cannot be written, it is tried again: No space left on device" in caplog.text
    await child.wait()
    await io.drain()
    await io.close()
    assert io.dropped == len("lost words\n")
    assert "box stdout: 11 bytes dropped" in caplog.text


async def test_a_reader_that_never_reads_holds_up_drain_only_so_long(rig, caplog):
    path = rig.fifo("out")
    with client_reads(path) as reader:
        io = rig.io(Streams(stdout=path), drain_timeout_s=0.05)
        child = await rig.run(io, "head -c 100000 /dev/zero")
        await child.wait()
        await io.drain()
        await io.close()
        delivered = len(await take_all(reader))
    assert delivered + io.dropped == 100_000
    assert f"{io.dropped} bytes dropped" in caplog.text


@pytest.mark.parametrize("chatty", [False, True])
async def test_a_grandchild_that_holds_the_pipe(rig, chatty):
    """The process's own output arrives, its end is told to the client, and nobody waits for the grandchild."""
    path = rig.fifo("out")
    io = rig.io(Streams(stdout=path), drain_timeout_s=0.05)
    with client_reads(path) as reader, rig.reaper.window() as window:
        grandchild = "yes" if chatty else "sleep 1000"
        child = await rig.run(io, f"echo $$ ok; {grandchild} & echo $! >{rig.folder}/pid")
        await child.wait()
        left = window.adopt(int((rig.folder / "pid").read_text()))
        rig.children.append(left)
        io.process_ended()
        collecting = asyncio.create_task(take_all(reader))
        await io.drain()
        assert [state["ended"] for state in io.stream_states()] == [True]
        output = await collecting
    assert output.startswith(f"{child.pid} ok\n".encode())
    await io.close()
    if chatty:  # nobody reads its pipe any more
        assert (await left.wait()).signal == signal.SIGPIPE
    else:
        assert left.exit is None


@pytest.mark.parametrize("when", ["before open", "before started", "while it runs", "twice"])
async def test_close_at_any_time(rig, when):
    streams = Streams(rig.fifo("in"), rig.fifo("out"))
    io = rig.io(streams, fifo_timeout_s=0)
    if when == "before open":
        await io.close()
        with pytest.raises(FailedPrecondition, match="streams of box are closed"):
            await io.open()
        return
    await io.open()
    if when == "before started":
        await io.close()
        with pytest.raises(FailedPrecondition):
            await io.started()
        with pytest.raises(ValueError, match="closed"):
            _ = io.runtime_fds
        return
    child = rig.spawn(["cat"], io.runtime_fds)
    await io.started()
    await io.close()
    if when == "twice":
        await io.close()
    assert (await child.wait()).status == 0
    assert len(rig.copier) == 0
    with pytest.raises(FailedPrecondition):
        await io.started()
