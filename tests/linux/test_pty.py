import errno
import os
import select
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from shim.linux.fd import OwnedFd
from shim.linux.pty import Winsize, get_winsize, make_raw, restore, set_winsize


@pytest.fixture
def terminal():
    ptmx, pts = os.openpty()
    with OwnedFd(ptmx), OwnedFd(pts):
        yield ptmx, pts


def test_a_size_set_on_one_end_holds_for_the_other(terminal):
    ptmx, pts = terminal
    set_winsize(ptmx, Winsize(rows=43, cols=132))
    assert get_winsize(pts) == Winsize(rows=43, cols=132)
    set_winsize(pts, Winsize(65535, 0))
    assert get_winsize(ptmx) == (65535, 0)


def test_the_foreground_group_hears_of_a_change(terminal):
    ptmx, pts = terminal
    script = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})\n"
        "print('ready', flush=True)\n"
        "signal.sigwait({signal.SIGWINCH})\n"
        "print(os.get_terminal_size())\n"
    )
    # setsid -c makes the pty its controlling terminal and the group the foreground one.
    child = subprocess.Popen(
        ["setsid", "-c", sys.executable, "-c", script], stdin=pts, stdout=pts, stderr=pts
    )
    try:
        read_until(ptmx, b"ready")
        set_winsize(ptmx, Winsize(rows=11, cols=22))
        read_until(ptmx, b"columns=22, lines=11")
    finally:
        child.kill()
        child.wait()


def read_until(fd, text):
    seen = b""
    while text not in seen:
        assert select.select([fd], [], [], 10)[0], seen
        seen += os.read(fd, 4096)


@pytest.mark.parametrize("size", [Winsize(-1, 1), Winsize(1, 65536)])
def test_sizes_that_do_not_fit(terminal, size):
    with pytest.raises(OSError, match="a terminal cannot have") as caught:
        set_winsize(terminal[0], size)
    assert caught.value.errno == errno.EINVAL


def test_raw_passes_every_byte_both_ways_and_restore_undoes_it(terminal):
    ptmx, pts = terminal
    before = termios.tcgetattr(pts)
    saved = make_raw(pts)
    everything = bytes(range(256))
    os.write(ptmx, everything)
    assert os.read(pts, 1000) == everything
    os.write(pts, b"a\nb\r\n")
    assert os.read(ptmx, 1000) == b"a\nb\r\n"
    restore(pts, saved)
    assert termios.tcgetattr(pts) == before


def test_raw_keeps_what_was_typed_ahead(terminal):
    ptmx, pts = terminal
    os.write(ptmx, b"typed\n")
    make_raw(pts)
    assert os.read(pts, 100) == b"typed\n"


def test_no_terminal(terminal):
    modes = termios.tcgetattr(terminal[0])
    calls = [
        get_winsize,
        make_raw,
        lambda fd: set_winsize(fd, Winsize(1, 1)),
        lambda fd: restore(fd, modes),
    ]
    with Path("/dev/null").open("rb") as file:
        for call in calls:
            with pytest.raises(OSError, match="Inappropriate ioctl") as caught:
                call(file.fileno())
            assert caught.value.errno == errno.ENOTTY
