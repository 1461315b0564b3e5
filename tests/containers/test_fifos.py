from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from shim.containers.fifos import Fifos
from shim.errors import ShimError


@pytest.fixture
def fifos(tmp_path):
    return Fifos.make(tmp_path / "fifos", ("stdin", "stdout", "stderr"))


def test_only_the_named_ones_are_made(tmp_path):
    fifos = Fifos.make(tmp_path / "a" / "fifos", ("stdout",))
    assert fifos.path("stdout") == str(tmp_path / "a" / "fifos" / "stdout")
    assert fifos.path("stdin") == fifos.path("stderr") == ""


def test_making_them_twice_is_an_error(tmp_path, fifos):
    with pytest.raises(ShimError, match="cannot make the FIFOs"):
        Fifos.make(tmp_path / "fifos", ("stdin",))


def test_opening_waits_for_nobody(fifos):
    """No shim is there yet: neither a reader of stdin nor a writer of the outputs."""
    opened = fifos.open(stdin=True)
    assert None not in (opened.stdin, opened.stdout, opened.stderr)
    opened.close()


def test_stdin_stays_closed_unless_asked_for(fifos):
    opened = fifos.open(stdin=False)
    assert opened.stdin is None
    assert opened.stdin_keeper is None
    opened.close()


def test_once_the_shim_is_connected_its_end_shows(fifos):
    opened = fifos.open(stdin=True)
    shim = os.open(fifos.path("stdin"), os.O_RDONLY | os.O_NONBLOCK)
    opened.shim_is_connected()
    assert os.write(opened.stdin.fileno(), b"x") == 1
    os.close(shim)
    with pytest.raises(BrokenPipeError):
        os.write(opened.stdin.fileno(), b"x")
    opened.close()


def test_before_that_nothing_is_lost(fifos):
    opened = fifos.open(stdin=True)
    os.write(opened.stdin.fileno(), b"early")
    shim = os.open(fifos.path("stdin"), os.O_RDONLY | os.O_NONBLOCK)
    opened.shim_is_connected()
    opened.close()
    assert os.read(shim, 100) == b"early"
    assert os.read(shim, 100) == b""
    os.close(shim)


def test_a_writer_that_comes_and_goes_is_an_end_and_before_there_is_none(fifos):
    """What FifoOutput relies on: poll tells a writer that is gone from one that has not come."""
    opened = fifos.open(stdin=False)
    poll = select.poll()
    poll.register(opened.stdout.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    os.close(os.open(fifos.path("stdout"), os.O_WRONLY))
    assert poll.poll(0) == [(opened.stdout.fileno(), select.POLLHUP)]
    opened.close()


def test_a_second_client_is_told_and_the_third_comes_after_the_first(fifos):
    # Record locks are the process's: only another process can tell.
    script = "import sys; from pathlib import Path; from shim.containers.fifos import Fifos; "
    script += "Fifos(Path(sys.argv[1])).open(stdin=True)"
    other = [sys.executable, "-c", script, fifos.directory]
    opened = fifos.open(stdin=True)
    second = subprocess.run(other, capture_output=True, check=False)
    assert b"FailedPrecondition: another ocishim is attached to " in second.stderr
    opened.close()
    assert subprocess.run(other, check=False).returncode == 0


def test_removing_works_twice(fifos):
    fifos.remove()
    fifos.remove()
    assert not fifos.directory.exists()
