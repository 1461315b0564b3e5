import os
import select
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from shim.linux.pidfd import exit_status_of, pidfd_open, pidfd_send_signal


def kernel():
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


@pytest.fixture
def child():
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    with ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.stdin.close)
        stack.callback(process.kill)
        yield process


def wait_readable(fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(10_000)


def test_signal_ends_the_process_and_the_pidfd_tells(child):
    with pidfd_open(child.pid) as pidfd:
        assert not os.get_inheritable(pidfd.fileno())
        pidfd_send_signal(pidfd.fileno(), 0)
        pidfd_send_signal(pidfd.fileno(), signal.SIGTERM)
        wait_readable(pidfd.fileno())
        assert child.wait() == -signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            pidfd_send_signal(pidfd.fileno(), signal.SIGTERM)


def test_a_reaped_process_has_no_pidfd(child):
    child.kill()
    child.wait()
    with pytest.raises(ProcessLookupError):
        pidfd_open(child.pid)


def test_the_living_have_no_exit_status(child):
    with pidfd_open(child.pid) as pidfd:
        assert exit_status_of(pidfd.fileno()) is None


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_wait_status_of_a_signalled_process(child, sig):
    with pidfd_open(child.pid) as pidfd:
        child.send_signal(sig)
        child.wait()
        status = exit_status_of(pidfd.fileno())
    if kernel() < (6, 15):
        assert status is None
    else:
        assert os.WTERMSIG(status) == sig


def test_wait_status_of_a_process_that_exited():
    with (
        subprocess.Popen(["sh", "-c", "read x; exit 7"], stdin=subprocess.PIPE) as process,
        pidfd_open(process.pid) as pidfd,
    ):
        process.communicate(b"\n")
        status = exit_status_of(pidfd.fileno())
    assert status is None if kernel() < (6, 15) else os.waitstatus_to_exitcode(status) == 7


def test_a_descriptor_that_is_no_pidfd():
    with Path("/dev/null").open("rb") as file:
        assert exit_status_of(file.fileno()) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        exit_status_of(1 << 20)
