"""Sockets of systemd, in a process of its own: their numbers are fixed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

# Puts what it is given at 3 and on, says so as systemd does, and tells what it took.
SCRIPT = """
import json, os, sys
from shim.daemon.activation import take_sockets
from shim.errors import ShimError
fds, told = json.loads(sys.argv[1]), json.loads(sys.argv[2])
copies = [os.dup2(fd, 100 + n) for n, fd in enumerate(fds)]
for n, fd in enumerate(copies):
    os.dup2(fd, 3 + n, inheritable=True)
for fd in copies: os.close(fd)
os.environ.update({k: v.replace("PID", str(os.getpid())) for k, v in told.items()})
try:
    found = take_sockets(os.environ)
except ShimError as error:
    print(json.dumps({"error": str(error), "open": [os.path.exists(f"/proc/self/fd/{3 + n}") for n in range(len(fds))]}))
else:
    again = take_sockets(os.environ)
    print(json.dumps({"found": {k: [s.getsockname() for s in v] for k, v in found.items()},
        "inheritable": any(s.get_inheritable() for v in found.values() for s in v), "again": again}))
"""


@pytest.fixture
def take(tmp_path):
    """``take(sockets, LISTEN_FDNAMES=…)``."""

    def run(sockets, **told):
        told = {"LISTEN_PID": "PID", "LISTEN_FDS": str(len(sockets)), **told}
        fds = [sock.fileno() for sock in sockets]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(fds), json.dumps(told)],
            pass_fds=fds,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return run


@pytest.fixture
def make(tmp_path):
    """Makes listening sockets: ``make("name")``."""
    made = []

    def listening(name, kind=socket.SOCK_STREAM, *, listens=True):
        sock = socket.socket(socket.AF_UNIX, kind)
        made.append(sock)
        sock.bind(str(tmp_path / name))
        if listens:
            sock.listen()
        return sock

    yield listening
    for sock in made:
        sock.close()


def test_by_name(take, make, tmp_path):
    found = take([make("a"), make("b"), make("c")], LISTEN_FDNAMES="grpc:http:http")
    assert found == {
        "found": {"grpc": [f"{tmp_path}/a"], "http": [f"{tmp_path}/b", f"{tmp_path}/c"]},
        "inheritable": False,
        "again": {},
    }


@pytest.mark.parametrize("name", ["", "http", "ocishim.socket", "unknown"])
def test_one_alone_is_http(take, make, tmp_path, name):
    assert take([make("a")], LISTEN_FDNAMES=name)["found"] == {"http": [f"{tmp_path}/a"]}


def test_those_of_another_process(take, make):
    assert take([make("a")], LISTEN_PID="1")["found"] == {}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("http:other", "'other' is none of http, grpc"),
        ("", "LISTEN_FDNAMES names 0 of 2 sockets"),
        ("http", "LISTEN_FDNAMES names 1 of 2 sockets"),
    ],
)
def test_names_that_are_none(take, make, names, said):
    found = take([make("a"), make("b")], LISTEN_FDNAMES=names)
    assert said in found["error"]
    assert found["open"] == [False, False]


def test_sockets_that_cannot_be(take, make):
    assert "no listening stream socket" in take([make("a", socket.SOCK_DGRAM, listens=False)])["error"]
    assert "no listening stream socket" in take([make("b", listens=False)])["error"]
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        assert "must be a unix socket" in take([tcp], LISTEN_FDNAMES="grpc")["error"]
    with open("/dev/null", "rb") as file:
        assert "is no socket" in take([file])["error"]
    assert "is no number" in take([], LISTEN_FDS="many")["error"]
