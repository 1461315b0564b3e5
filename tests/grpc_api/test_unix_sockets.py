"""The flag ``unixSockets`` of checkpoints: sockets whose other side is outside of the container.

criu can connect datagram sockets again by their path, as those to a syslog; half of a stream it refuses, whatever is allowed.
It sees the other side only if the container has the network namespace of the host, to which unix sockets belong as well, and
connects to the path that the other side has bound: the container has to have it in the same place.
"""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support import bed
from support.first_api import Server, lend

pytestmark = [pytest.mark.root, pytest.mark.criu]

SOURCE = Path(__file__).with_name("unix_socket.c")


@pytest.fixture
def server(api_of):
    bed.need_runtime("runc")
    yield from lend(api_of.get())


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Static: the root file system of the samples has no library."""
    bed.need(shutil.which("cc"), "cc is not installed: apt-get install gcc")
    built = tmp_path_factory.mktemp("unix-socket") / "unix_socket"
    subprocess.run(["cc", "-static", "-Os", "-o", built, SOURCE], check=True)
    return built


@pytest.fixture
def outside(kind, tmp_path):
    """A socket of the host, in a folder that the container sees."""
    folder = tmp_path / "outside"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "dgram" else socket.SOCK_STREAM) as sock:
        sock.bind(str(folder / "sock"))
        sock.settimeout(30)
        if kind == "stream":
            sock.listen()
        yield sock


@pytest.fixture
def folder(program, kind, outside, bundle, tmp_path):
    """A bundle without a network of its own, and with the folder in the same place."""
    shared = str(tmp_path / "outside")
    shutil.copy(program, shared)
    made = bundle([f"{shared}/unix_socket", kind, f"{shared}/sock"])
    with edited(made) as config:
        config["mounts"].append({"destination": shared, "source": shared, "options": ["rbind", "rw"]})
        namespaces = config["linux"]["namespaces"]
        namespaces.remove(next(each for each in namespaces if each["type"] == "network"))
    return made


@contextmanager
def edited(folder: Path) -> Iterator[dict[str, Any]]:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    yield config
    file.write_text(json.dumps(config))


def counted(outside: socket.socket) -> int:
    """The next number that comes."""
    return int(outside.recv(64).split()[1])


def counted_last(outside: socket.socket, last: int) -> int:
    """The last of those that have come, ``last`` if there are none."""
    while select.select([outside], [], [], 0)[0]:
        last = counted(outside)
    return last


def is_refused(server: Server, outside: socket.socket, folder: Path, why: str, **flags: bool) -> None:
    """And the container goes on."""
    pid = server.create("c1", folder)
    with outside.accept()[0] if outside.type == socket.SOCK_STREAM else nullcontext(outside) as other:
        counted(other)
        server.refuses(
            "UNKNOWN", f"criu failed.*{why}", "CreateCheckpoint", id="c1", checkpoint={"name": "x", **flags}
        )
        assert server.states()["c1"]["processes"][0]["pid"] == pid
        assert server.call("ListCheckpoint", id="c1") == {}
        server.kill("c1")


@pytest.mark.parametrize("kind", ["dgram"])
def test_it_is_refused_without_the_flag(server, outside, folder):
    is_refused(server, outside, folder, "Consider using --ext-unix-sk")


@pytest.mark.parametrize("kind", ["stream"])
def test_half_of_a_stream_is_refused_with_it(server, outside, folder):
    is_refused(server, outside, folder, "half of stream unix connection", unixSockets=True)


@pytest.mark.parametrize("kind", ["dgram"])
def test_what_lies_in_another_network_namespace_is_refused_with_it(server, outside, folder):
    with edited(folder) as config:
        config["linux"]["namespaces"].append({"type": "network"})
    is_refused(server, outside, folder, "without peer", unixSockets=True)


@pytest.mark.parametrize("kind", ["dgram"])
def test_it_is_connected_again(server, outside, folder):
    server.create("c1", folder)
    first = counted(outside)
    server.call("CreateCheckpoint", id="c1", checkpoint={"name": "x", "unixSockets": True, "exit": True})
    last = counted_last(outside, first)
    server.create("c1", folder, checkpoint="x")
    assert [counted(outside) for _ in range(20)] == list(range(last + 1, last + 21))
    server.kill("c1")
    server.call("DeleteCheckpoint", id="c1", name="x")
