from __future__ import annotations

import os
import pty
import termios

import pytest

from shim.cli.terminal import Terminal, raw
from shim.linux.pty import Winsize, set_winsize


@pytest.fixture
def terminal():
    master, slave = pty.openpty()
    yield slave
    os.close(slave)
    os.close(master)


def test_a_terminal_is_raw_only_inside_also_when_that_fails(terminal):

    def fail():
        local = termios.tcgetattr(terminal)[3]
        assert not local & (termios.ICANON | termios.ECHO | termios.ISIG)
        raise RuntimeError

    before = termios.tcgetattr(terminal)
    with pytest.raises(RuntimeError), raw(terminal):
        fail()
    assert termios.tcgetattr(terminal) == before


def test_what_is_no_terminal_is_left_alone():
    reader, writer = os.pipe()
    with raw(reader):
        os.write(writer, b"x")
    os.close(reader)
    os.close(writer)


def test_a_terminal_that_is_gone_is_no_error():
    master, slave = pty.openpty()
    with raw(slave):
        os.close(master)
    os.close(slave)


def test_the_size_is_the_terminals_or_unknown(terminal):
    set_winsize(terminal, Winsize(20, 90))
    assert Terminal(terminal).size() == Winsize(20, 90)
    with open(os.devnull, "rb") as null:
        assert Terminal(null.fileno()).size() == Winsize(0, 0)
