"""Sockets of shims: their names, and who gets one when several want it."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.shims import raises

from shim.bootstrap.listener import containerd_socket, listen, own_socket
from shim.errors import AlreadyExists, InvalidArgument, ShimError

# On a busy machine everything is slow.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_the_name_is_containerds():
    name = hashlib.sha256(b"/run/containerd/containerd.sock/k8s.io/pod1").hexdigest()
    assert (
        containerd_socket("/run/s", "/run/containerd/containerd.sock", "k8s.io", "pod1") == f"/run/s/{name}"
    )


@pytest.mark.parametrize("group", ["/ns2/c", "../ns2/c", "/", "..", "\ud800", "x" * 100_000, "\0"])
def test_no_group_reaches_the_socket_of_another_namespace(group):
    theirs = containerd_socket("/s", "/c.sock", "ns2", "c")
    ours = containerd_socket("/s", "/c.sock", "ns", group)
    assert ours not in {theirs, containerd_socket("/s", "/c.sock", "", "/ns2/c")}
    assert len(ours) == len("/s/") + 64


@untimed
@given(st.text(), st.text())
def test_different_containers_have_different_sockets(first, second):
    if first != second:
        assert own_socket("/r", "ns", first) != own_socket("/r", "ns", second)


def test_the_longest_path_and_one_more():
    assert len(containerd_socket("/" + "d" * 41, "/c", "ns", "c")) == 107
    with raises(InvalidArgument, "1 bytes too long"):
        containerd_socket("/" + "d" * 42, "/c", "ns", "c")
    with raises(InvalidArgument, "state root", "too long"):
        own_socket("/" + "d" * 100, "ns", "c")


def test_no_path_ends_in_its_middle():
    with raises(InvalidArgument, "NUL"):
        containerd_socket("/a\0b", "/c", "ns", "c")


def test_only_we_may_connect(state_root):
    path = state_root / "new" / "dir" / "sock"
    with listen(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_umask_stays_as_it_was(state_root):
    before = os.umask(0o022)
    with listen(str(state_root / "sock")):
        assert os.umask(before) == 0o022


def test_one_that_listens_is_found(state_root):
    path = str(state_root / "sock")
    with listen(path):
        with raises(AlreadyExists, path):
            listen(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_one_whose_queue_is_full_listens_and_holds_up_nobody(state_root):
    path = str(state_root / "sock")
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as waiting:
        hung.bind(path)
        hung.listen(0)
        waiting.connect(path)
        with raises(AlreadyExists, path):
            listen(path)


def test_a_dead_one_is_replaced(state_root):
    path = str(state_root / "sock")
    listen(path).close()
    with listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_what_is_no_socket_stays(state_root):
    path = state_root / "sock"
    path.write_text("precious")
    with pytest.raises(ShimError):
        listen(str(path)).close()
    assert path.read_text() == "precious"


def test_of_many_at_once_one_gets_it(state_root):
    path = str(state_root / "sock")
    listen(path).close()
    together = threading.Barrier(8)

    def attempt(_):
        together.wait()
        try:
            return listen(path)
        except AlreadyExists:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = [listener for listener in pool.map(attempt, range(8)) if listener is not None]
    assert len(found) == 1
    found[0].close()


def test_a_directory_that_cannot_be(state_root):
    (state_root / "file").write_text("")
    with pytest.raises(ShimError, match="cannot be made"):
        listen(str(state_root / "file" / "sock"))
