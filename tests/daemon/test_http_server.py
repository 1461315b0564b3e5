"""Bytes on a connection to the daemon: what is no HTTP, what comes slowly, what is not read, what ends early."""

from __future__ import annotations

import json
import os
import select
import socket
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import bed
from support.daemons import DaemonProcess

BELOW_V1 = "sys/plugins/runtimes/catalog"
RUNTIMES = f"/v1/{BELOW_V1}"
HEALTH = b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def module_root():
    with tempfile.TemporaryDirectory(prefix="ocishim-", dir="/run" if os.geteuid() == 0 else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def shared(module_root):
    """One daemon for many tests, with no leaks in the end."""
    (module_root / "shared").mkdir()
    daemon = DaemonProcess(module_root / "shared", "grpc = false", "rate_limit = 0").start()
    with closing(daemon):
        before = open_files(daemon)
        yield daemon
        deadline = time.monotonic() + 10
        while open_files(daemon) > before:
            assert time.monotonic() < deadline, "descriptors are left open"
            time.sleep(0.01)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log.read_text()
        assert "level=error" not in daemon.log.read_text()


@pytest.fixture(scope="module")
def impatient(module_root):
    """One that waits for 0.3 s."""
    (module_root / "impatient").mkdir()
    daemon = DaemonProcess(module_root / "impatient", "grpc = false", "request_timeout = 0.3").start()
    with closing(daemon):
        yield daemon
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log.read_text()


def open_files(daemon):
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


def read_all(sock):
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def read_answer(sock):
    """The next answer on a connection that goes on: its status and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(1)
        assert part, data
        data += part
    head = data.decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0]) if "content-length" in head else 0
    body = b""
    while len(body) < length:
        body += sock.recv(length - len(body))
    return int(head.split()[1]), body


def envelope(data):
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000,
    ],
)
def test_what_is_no_http_gets_an_envelope(shared, data):
    with closing(shared.raw(data)) as sock:
        sock.shutdown(socket.SHUT_WR)
        status, said = envelope(read_all(sock))
    assert (status, said) == (400, {"errors": ["Invalid HTTP request received."]})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: b"GET /v1/" + tail + b"\r\n\r\n")
)
def test_any_bytes(shared, data):
    """An envelope, or nothing where that was no request yet; and the daemon is as it was."""
    with closing(shared.raw(data)) as sock:
        sock.shutdown(socket.SHUT_WR)
        if answer := read_all(sock):
            assert envelope(answer)[0] in {400, 403, 404, 405}
    with closing(shared.raw(HEALTH)) as sock:
        assert read_answer(sock)[0] == 200


def test_paths_as_they_are(shared):
    """What a well-behaved client would have taken for itself."""
    for path in (
        "/container/..",
        "/container/../../../../etc/passwd",
        "/container/./a",
        "//container/a",
        "/container/",
    ):
        request = f"GET {RUNTIMES}{path} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {shared.root}\r\n\r\n"
        with closing(shared.raw(request.encode())) as sock:
            assert read_answer(sock) == (404, b'{"errors":["unsupported path"]}\n')
    for target in ("*", "http://x/v1/sys/nothing", RUNTIMES[1:]):
        request = f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {shared.root}\r\n\r\n"
        with closing(shared.raw(request.encode())) as sock:
            assert read_answer(sock)[0] == 404


def test_requests_one_after_the_other_on_one_connection(shared):
    with closing(shared.raw()) as sock:
        for byte in HEALTH:
            sock.sendall(bytes([byte]))
        assert read_answer(sock)[0] == 200
        sock.sendall(HEALTH * 3)
        assert [read_answer(sock)[0] for _ in range(3)] == [200] * 3


def test_a_client_that_sends_no_more_gets_its_answer(shared):
    request = f"LIST {RUNTIMES} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {shared.root}\r\n\r\n"
    with closing(shared.raw(request.encode())) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert envelope(read_all(sock))[0] in {200, 404}


@pytest.mark.parametrize("rest", ["", "GET /v1/sys/he"])
def test_a_client_that_sends_no_more_gets_all_its_answers(shared, rest):
    one = f"POST {RUNTIMES}/container/many HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {shared.root}\r\n"
    with closing(shared.raw(f"{one}Content-Length: 2\r\n\r\n{{}}".encode() * 20 + rest.encode())) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).count(b"HTTP/1.1 204") == 20
    with shared.client() as client:
        assert client.delete(f"{BELOW_V1}/container/many").status_code == 204


def test_a_client_that_leaves_in_the_middle(shared):
    head = f"POST {RUNTIMES}/container/half HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {shared.root}\r\nContent-Length: 100\r\n\r\n"
    for data in (head[:20], head, head + '{"cpu_nanos": 1'):
        shared.raw(data.encode()).close()
        with closing(shared.raw(data.encode())) as sock:
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
    with shared.client() as client:
        assert client.get(f"{BELOW_V1}/container/half").status_code == 404


def test_a_body_that_is_too_large_is_not_taken(shared):
    """Neither one that says so, nor one that does not, also when the client sends all of it before it looks."""
    head = f"POST {RUNTIMES}/container/a HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {shared.root}\r\n"
    chunk = b"%x\r\n%s\r\n" % (1 << 16, b"x" * (1 << 16))
    for framing, block in (
        ("Content-Length: 4194304", b"x" * (1 << 16)),
        ("Transfer-Encoding: chunked", chunk),
    ):
        with closing(shared.raw(f"{head}{framing}\r\n\r\n".encode())) as sock:
            for _ in range(64):
                sock.sendall(block)
            sock.sendall(b"0\r\n\r\n" if block is chunk else b"")
            assert read_answer(sock)[0] == 413
            sock.sendall(HEALTH)
            assert read_answer(sock)[0] == 200


@pytest.mark.parametrize("data", [b"", b"GET /v1/sys/health HT", HEALTH + b"GET"])
def test_a_head_that_does_not_come(impatient, data):
    began = time.monotonic()
    with closing(impatient.raw(data)) as sock:
        if data.startswith(HEALTH):
            assert read_answer(sock)[0] == 200
        status, said = envelope(read_all(sock))
    assert (status, said["errors"]) == (408, ["the request has not arrived within 0.3 s"])
    assert time.monotonic() - began >= 0.3


def test_a_body_that_nobody_wants_must_end_as_well(impatient):
    head = f"POST {RUNTIMES}/container/a HTTP/1.1\r\nHost: x\r\nX-Vault-Token: x\r\nContent-Length: 9999999\r\n\r\n"
    with closing(impatient.raw(head.encode())) as sock:
        assert read_answer(sock)[0] == 413
        assert read_all(sock) == b""


def test_a_body_that_does_not_come(impatient):
    head = f"POST {RUNTIMES}/container/a HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {impatient.root}\r\nContent-Length: 9\r\n\r\n{{"
    with closing(impatient.raw(head.encode())) as sock:
        assert envelope(read_all(sock))[0] == 408


def test_a_client_that_does_not_read(impatient):
    """It is cut off, and does not hold up the others."""
    with closing(impatient.raw()) as sock:
        sock.setblocking(False)
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                sock.send(request)
            except BlockingIOError:
                time.sleep(0.01)
            except (BrokenPipeError, ConnectionResetError):
                break
        else:
            pytest.fail("the daemon waits for ever")
    with closing(impatient.raw(HEALTH)) as sock:
        assert read_answer(sock)[0] == 200


def test_no_more_connections_than_there_may_be(make_daemon):
    daemon = make_daemon("grpc = false", "max_connections = 3").start()
    held = [daemon.raw(HEALTH) for _ in range(3)]
    try:
        assert [read_answer(sock)[0] for sock in held] == [200] * 3
        with closing(daemon.raw(HEALTH)) as sock:
            assert envelope(read_all(sock)) == (503, {"errors": ["too many connections"]})
        held.pop().close()
        deadline = time.monotonic() + 30
        while True:
            with closing(daemon.raw(HEALTH)) as sock:
                if read_answer(sock)[0] == 200:
                    break
            assert time.monotonic() < deadline
    finally:
        for sock in held:
            sock.close()


def test_descriptors_run_out_and_come_back(make_daemon):
    """Whoever comes then waits; the log has a line, and no traceback."""
    daemon = make_daemon("grpc = false").start("prlimit", "--nofile=24", "--")
    folder = Path(f"/proc/{daemon.process.pid}/fd")
    held = []
    try:
        while len(os.listdir(folder)) < 24:
            held.append(daemon.raw(HEALTH))
            bed.until(
                lambda: len(os.listdir(folder)) == 24 or select.select(held[-1:], [], [], 0)[0], "no answer"
            )
        waiting = daemon.raw(HEALTH)
        for sock in held:
            sock.close()
        with closing(waiting):
            assert read_answer(waiting)[0] == 200
    finally:
        for sock in held:
            sock.close()
    assert "Traceback" not in daemon.log.read_text()
