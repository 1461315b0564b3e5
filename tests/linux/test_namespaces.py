"""Namespaces are changed in a thread that ends, and nowhere else."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from shim.linux.fd import OwnedFd
from shim.linux.namespaces import CLONE_NEWNET, CLONE_NEWUTS, apart, is_initial_network, setns, unshare


@pytest.mark.root
def test_what_a_thread_changes_ends_with_it():
    before = socket.gethostname()

    def change():
        unshare(CLONE_NEWUTS)
        socket.sethostname("apart")
        return socket.gethostname(), os.readlink("/proc/thread-self/ns/uts")

    name, link = apart(change)
    assert name == "apart"
    assert link != os.readlink("/proc/self/ns/uts")
    assert socket.gethostname() == before
    assert "apart" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.root
def test_a_thread_enters_what_another_has_made():
    def made():
        unshare(CLONE_NEWUTS)
        return os.open("/proc/thread-self/ns/uts", os.O_RDONLY)

    fd = apart(made)
    try:
        inode = os.fstat(fd).st_ino

        def enter():
            setns(fd, CLONE_NEWUTS)
            return os.stat("/proc/thread-self/ns/uts").st_ino

        assert apart(enter) == inode
        with pytest.raises(OSError) as raised:
            apart(lambda: setns(fd, CLONE_NEWNET))
    finally:
        os.close(fd)
    assert raised.value.errno == errno.EINVAL


def test_errors_come_back():
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 / 0)


@pytest.mark.root
def test_a_new_network_is_not_that_of_the_host():
    def made():
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    with OwnedFd(apart(made)) as fd:
        assert not is_initial_network(f"/proc/self/fd/{fd.fileno()}")
    assert is_initial_network("/proc/self/ns/net") == Path("/proc/sys/net/core/dev_weight").exists()
    with pytest.raises(FileNotFoundError):
        is_initial_network("/run/netns/none")
    with pytest.raises(OSError, match="Invalid argument"):
        is_initial_network("/proc/self/ns/uts")
