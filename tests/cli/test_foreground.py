"""The loop with a shim of straw: one pipe per output, and a socket on which the answer to Wait comes."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from shim.cli import foreground
from shim.cli.detach import DetachKeys
from shim.cli.foreground import End, Foreground
from shim.cli.log_file import LogOutput
from shim.cli.signals import Signals
from shim.cli.streams import FifoOutput, Input, Sink
from shim.errors import NotFound, Unavailable
from shim.linux.fd import pipe
from shim.linux.pty import Winsize


class Call:
    def __init__(self):
        self.outcome = None

    @property
    def done(self):
        return self.outcome is not None

    def result(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Shim:
    """What Foreground uses of a Task and its client; ``ended`` and ``lost`` are the shim's side."""

    def __init__(self):
        self._ours, self._theirs = socket.socketpair()
        self.client = self
        self.wait = Call()
        self.deleted = Call()
        self.asked = []

    def fileno(self):
        return self._ours.fileno()

    def receive(self):
        word = self._ours.recv(1)
        if not word:
            self._ours.close()
            self.wait.outcome = Unavailable("gone")
        elif word == b"d":
            self.deleted.outcome = True
        else:
            self.wait.outcome = SimpleNamespace(exit_status=ord(word))

    def begin_wait(self, exec_id):
        self.asked.append(("wait", exec_id))
        return self.wait

    def begin_kill(self, number, exec_id):
        self.asked.append(("kill", number, exec_id))
        if number == signal.SIGUSR1:
            raise NotFound("process already finished")

    def begin_resize(self, size, exec_id):
        self.asked.append(("resize", size, exec_id))

    def begin_close_stdin(self, exec_id):
        self.asked.append(("close stdin", exec_id))

    def ended(self, status=0):
        self._theirs.send(bytes([status]))

    def has_deleted(self):
        self._theirs.send(b"d")

    def lost(self):
        self._theirs.close()

    def close(self):
        self._ours.close()
        self._theirs.close()


class Bench:
    """A loop with one output: ``write`` is the process's end of it, ``read`` what reaches our stdout."""

    def __init__(self, stack, **more):
        self.shim = Shim()
        stack.callback(self.shim.close)
        source, self.write = pipe()
        os.set_blocking(source.fileno(), False)
        self.read, stdout = pipe()
        for end in (self.write, self.read, stdout):
            stack.callback(end.close)
        self.output = FifoOutput(source, Sink(stdout.fileno()))
        stdout.close()
        self.loop = Foreground(self.shim, "", [self.output], **more)


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def _run_in_thread(loop):
    outcomes = []

    def run():
        try:
            outcomes.append(loop.run())
        except Exception as error:  # noqa: BLE001 - handed on
            outcomes.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(20)
        assert not thread.is_alive()
        return outcomes[0]

    return join


def test_the_status_is_the_process_s(stack):
    bench = Bench(stack)
    bench.write.close()
    bench.shim.ended(7)
    assert bench.loop.run() == (End.EXITED, 7)
    assert bench.output.ended


def test_output_after_the_exit_is_not_lost(stack):
    """Wait is answered while most of the output has not even been written."""
    bench = Bench(stack)
    bench.shim.ended()
    join = _run_in_thread(bench.loop)
    data = os.urandom(300_000)

    def write():
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(bench.write.fileno(), rest) :]
        bench.write.close()

    writer = threading.Thread(target=write)
    writer.start()
    received = b""
    while piece := os.read(bench.read.fileno(), 65536):
        received += piece
    writer.join()
    assert join() == (End.EXITED, 0)
    assert received == data


def test_a_slow_reader_of_ours_is_waited_for(stack, monkeypatch):
    """With a piece in hand it is not quiet, however long it takes: Delete, which may drop output, is not asked for."""
    monkeypatch.setattr(foreground, "_QUIET_S", 0.01)
    finished = threading.Event()
    bench = Bench(stack, finish=finished.set)
    # Our stdout is full, and there is a piece for it.
    full = 0
    while written := bench.output._held._sink.write(memoryview(bytes(4096))):
        full += written
    os.write(bench.write.fileno(), b"piece")
    bench.shim.ended()
    join = _run_in_thread(bench.loop)
    assert not finished.wait(0.2)
    bench.write.close()
    received = b""
    while piece := os.read(bench.read.fileno(), 65536):
        received += piece
    assert received == bytes(full) + b"piece"
    assert join() == (End.EXITED, 0)


def test_a_left_over_writer_ends_with_delete(stack, monkeypatch):
    monkeypatch.setattr(foreground, "_QUIET_S", 0.01)

    def finish():
        os.write(bench.write.fileno(), b" last")
        bench.write.close()
        bench.shim.has_deleted()
        return bench.shim.deleted

    bench = Bench(stack, finish=finish)
    os.write(bench.write.fileno(), b"first")
    bench.shim.ended(3)
    assert bench.loop.run() == (End.EXITED, 3)
    assert os.read(bench.read.fileno(), 100) == b"first last"


def test_without_anybody_to_end_it_a_left_over_writer_is_left(stack, monkeypatch):
    monkeypatch.setattr(foreground, "_QUIET_S", 0.01)
    bench = Bench(stack)
    os.write(bench.write.fileno(), b"first")
    bench.shim.ended()
    assert bench.loop.run() == (End.EXITED, 0)
    assert os.read(bench.read.fileno(), 100) == b"first"


def test_a_shim_that_is_gone_is_an_error_and_its_last_output_is_not_lost(stack):
    bench = Bench(stack)
    os.write(bench.write.fileno(), b"last")
    bench.shim.lost()
    bench.write.close()
    with pytest.raises(Unavailable):
        bench.loop.run()
    assert bench.output.ended
    assert os.read(bench.read.fileno(), 100) == b"last"


def test_signals_are_forwarded_and_a_process_that_has_ended_is_no_error(stack):
    signals = stack.enter_context(Signals())
    bench = Bench(stack, signals=signals)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGUSR1)
    bench.loop._turn(10)
    assert bench.shim.asked == [("kill", signal.SIGTERM, ""), ("kill", signal.SIGUSR1, "")]
    bench.output.close()


def test_a_new_size_of_our_terminal_is_passed_on(stack):
    signals = stack.enter_context(Signals())
    terminal = SimpleNamespace(size=lambda: Winsize(10, 20))
    bench = Bench(stack, signals=signals, terminal=terminal)
    signal.raise_signal(signal.SIGWINCH)
    bench.loop._turn(10)
    assert bench.shim.asked == [("resize", Winsize(10, 20), "")]
    bench.output.close()


@pytest.mark.parametrize("end_stdin", [True, False])
def test_the_end_of_our_stdin_is_the_process_s_if_so_wished(stack, end_stdin):
    source, typed = pipe()
    reader, fifo = pipe()
    for end in (source, typed, reader):
        stack.callback(end.close)
    bench = Bench(stack, stdin=Input(source.fileno(), fifo, None), end_stdin=end_stdin)
    os.write(typed.fileno(), b"all")
    typed.close()
    bench.loop._turn(10)
    bench.loop._turn(10)
    assert os.read(reader.fileno(), 10) == b"all"
    assert bench.shim.asked == ([("close stdin", "")] if end_stdin else [])
    bench.output.close()


def test_the_detach_keys_leave_it_alone(stack):
    source, typed = pipe()
    reader, fifo = pipe()
    for end in (source, typed, reader):
        stack.callback(end.close)
    bench = Bench(stack, stdin=Input(source.fileno(), fifo, DetachKeys(b"\x10\x11")))
    os.write(typed.fileno(), b"\x10\x11")
    assert bench.loop.run().end is End.DETACHED
    assert bench.shim.asked == [("wait", "")]


def test_when_nobody_reads_it_is_left_alone(stack):
    bench = Bench(stack)
    bench.read.close()
    os.write(bench.write.fileno(), b"x")
    assert bench.loop.run().end is End.UNREAD


def test_or_it_is_told_and_waited_for(stack):
    bench = Bench(stack, sigpipe=True)
    bench.read.close()
    os.write(bench.write.fileno(), b"x")
    bench.loop._turn(10)
    assert bench.shim.asked == [("kill", signal.SIGPIPE, "")]
    os.write(bench.write.fileno(), bytes(60_000))
    bench.write.close()
    bench.shim.ended(141)
    assert bench.loop.run() == (End.EXITED, 141)


def test_a_log_is_followed_until_the_shim_has_written_all(stack, tmp_path):
    """Wait is answered before the last output is in the file."""
    log = tmp_path / "log"
    log.write_bytes(b"first ")
    answers = iter([False, False, True])

    def drained():
        answer = next(answers)
        if answer:
            with log.open("ab") as file:
                file.write(b"last")
        return answer

    shim = Shim()
    stack.callback(shim.close)
    read, stdout = pipe()
    stack.callback(read.close)
    loop = Foreground(shim, "", [LogOutput(str(log), Sink(stdout.fileno()))], drained=drained)
    stdout.close()
    shim.ended(1)
    assert loop.run() == (End.EXITED, 1)
    assert os.read(read.fileno(), 100) == b"first last"
