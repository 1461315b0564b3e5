import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from shim.linux.sockets import (
    PeerCredentials,
    killed_by_hangup,
    peer_credentials,
    peer_groups,
    receive_fd,
    receive_fds,
)


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def open_fds():
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_peer_of_a_socketpair_is_this_process(pair):
    assert peer_credentials(pair[0]) == PeerCredentials(os.getpid(), os.getuid(), os.getgid())


@pytest.mark.root
@pytest.mark.parametrize(
    ("groups", "seen"), [([], set()), ([4711, 4712], {4711, 4712}), (range(1, 301), set())]
)
def test_groups_of_a_peer(tmp_path, groups, seen):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        subprocess.run(
            [sys.executable, "-SIc", connect, tmp_path / "s"], extra_groups=list(groups), check=True
        )
        accepted, _ = listener.accept()
        with accepted:
            assert peer_groups(accepted) == seen


def test_one_descriptor_and_its_message(pair):
    with Path("/dev/zero").open("rb") as file:
        socket.send_fds(pair[0], [b"/dev/pts/3"], [file.fileno()])
    data, fd = receive_fd(pair[1])
    with fd:
        assert data == b"/dev/pts/3"
        assert not os.get_inheritable(fd.fileno())
        assert os.read(fd.fileno(), 1) == b"\0"


@pytest.mark.parametrize("count", [0, 2, 3, 4, 100])
def test_any_other_number_is_an_error_and_nothing_stays_open(pair, count):
    with ExitStack() as stack:
        fds = [stack.enter_context(Path("/dev/null").open("rb")).fileno() for _ in range(count)]
        socket.send_fds(pair[0], [b"x"], fds)
    before = open_fds()
    with pytest.raises(OSError, match="expected a message with one descriptor"):
        receive_fd(pair[1])
    assert open_fds() == before


def test_a_peer_that_hangs_up(pair):
    pair[0].close()
    with pytest.raises(OSError, match="hung up"):
        receive_fd(pair[1])


def test_nothing_there_yet(pair):
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        receive_fd(pair[1])


def test_a_long_message_is_cut_at_the_limit(pair):
    with Path("/dev/null").open("rb") as file:
        socket.send_fds(pair[0], [b"y" * 5000], [file.fileno()])
    data, fd = receive_fd(pair[1])
    fd.close()
    assert data == b"y" * 4096


def test_several_descriptors(pair):
    with Path("/dev/null").open("rb") as one, Path("/dev/zero").open("rb") as other:
        socket.send_fds(pair[0], [b"abc"], [one.fileno(), other.fileno()])
    data, fds = receive_fds(pair[1], 2, 2)
    assert data == b"ab"
    assert [os.readlink(f"/proc/self/fd/{fd.fileno()}") for fd in fds] == ["/dev/null", "/dev/zero"]
    assert not any(os.get_inheritable(fd.fileno()) for fd in fds)
    for fd in fds:
        fd.close()
    assert pair[1].recv(10) == b"c"


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_another_number_of_several(pair, count):
    with ExitStack() as stack:
        fds = [stack.enter_context(Path("/dev/null").open("rb")).fileno() for _ in range(count)]
        socket.send_fds(pair[0], [b"x"], fds)
    before = open_fds()
    with pytest.raises(OSError, match="expected a message with 2 descriptors"):
        receive_fds(pair[1], 10, 2)
    assert open_fds() == before


def test_a_hangup_kills_while_that_is_wanted(pair):
    """Neither what is sent and read meanwhile, nor a hangup before or afterwards."""
    for wanted, expected in ((True, -signal.SIGKILL), (False, 7)):
        ours, its = socket.socketpair()
        ready, done = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            ready.close()
            with killed_by_hangup(its):
                its.send(b"taken")
                done.recv(1)
                if wanted:
                    done.send(b"here")
                    signal.pause()
            done.send(b"here")
            its.recv(1)  # returns at the hangup
            os._exit(7)
        its.close()
        done.close()
        assert ours.recv(10) == b"taken"
        ready.send(b"x")
        assert ready.recv(10) == b"here"
        ours.close()
        ready.close()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == expected
