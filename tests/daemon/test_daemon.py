"""The life of a daemon: started, reloaded, stopped, killed, and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from support.certificates import Authority
from support.daemons import DEADLINE_S

from shim.linux.locks import locked_directory

RUNTIMES = "sys/plugins/runtimes/catalog"
HEALTH = b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n"


def left(daemon):
    """What is at the places that others look at."""
    return sorted(
        entry.name for entry in daemon.folder.iterdir() if entry.is_socket() and entry.name != "notify"
    )


def refused(daemon, *more):
    """Started in vain: the one line that it says."""
    done = subprocess.run(
        [*daemon.command, *more], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def lines(daemon):
    return [json.loads(line) for line in daemon.audit.read_text().splitlines()]


def test_starts_and_ends(leaks, make_daemon):
    daemon = make_daemon()
    daemon.python = ("-X", "dev")
    daemon.start()
    assert left(daemon) == ["daemon.sock", "events.sock", "grpc.sock"]
    for path in (daemon.socket, daemon.grpc_socket):
        assert path.stat().st_mode & 0o777 == 0o600
    with daemon.client() as client:
        assert client.get("sys/health").status_code == 200
    daemon.send(signal.SIGTERM)
    assert daemon.told() == {"STOPPING": "1"}
    assert daemon.stop() == 0
    assert left(daemon) == []
    assert "level=error" not in daemon.log.read_text()
    assert "Traceback" not in daemon.log.read_text()


def test_every_line_of_the_log_is_one(daemon):
    daemon.stop()
    assert all(line.startswith("time=") for line in daemon.log.read_text().splitlines())


def test_ctrl_c_ends_it_too(daemon):
    assert daemon.stop(signal.SIGINT) == 0
    assert left(daemon) == []


def test_a_second_one_is_refused_and_harms_nothing(leaks, make_daemon):
    daemon = make_daemon().start()
    assert refused(daemon) == f"ocishim: another daemon listens on {daemon.socket} already"
    assert "already" in refused(daemon, "--socket", f"{daemon.folder}/other.sock"), (
        "that of the gRPC API is taken"
    )
    assert left(daemon) == ["daemon.sock", "events.sock", "grpc.sock"], "of the one that serves"
    with daemon.client() as client:
        assert client.get("sys/health").status_code == 200
    assert daemon.stop() == 0


def test_what_a_killed_one_leaves_is_replaced(leaks, make_daemon):
    daemon = make_daemon().start()
    with daemon.client() as client:
        client.post(f"{RUNTIMES}/container/a", json={"cpu_nanos": 5})
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert "daemon.sock" in left(daemon)
    daemon.start()
    with daemon.client() as client:
        assert client.get(f"{RUNTIMES}/container/a").json()["data"]["cpu_nanos"] == 5
    assert daemon.stop() == 0
    assert left(daemon) == []


def test_a_file_that_is_no_socket_is_not_replaced(make_daemon):
    daemon = make_daemon("grpc = false")
    daemon.socket.write_text("precious")
    assert "cannot be made" in refused(daemon)
    assert daemon.socket.read_text() == "precious"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sockets = 1", "daemon: unknown key 'sockets'"),
        ('tcp = "127.0.0.1:0"', "over TCP there is TLS only"),
        ('audit_log = "/proc/nothing/a"', "the audit log /proc/nothing/a cannot be opened"),
        ('tls_certificate = "/nowhere"\ntls_key = "/nowhere"', "No such file or directory"),
        ("max_request_bytes = 0", "daemon: max_request_bytes = 0: must be 1 or more"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_left(leaks, make_daemon, line, said):
    daemon = make_daemon("grpc = false", line)
    error = refused(daemon)
    assert error.startswith("ocishim: ")
    assert said in error
    assert left(daemon) == []


class TestStop:
    def test_requests_that_have_begun_are_answered(self, daemon):
        """One that waits for the catalog's lock, and one whose body is still to come."""
        with daemon.client() as client:
            assert client.post(f"{RUNTIMES}/container/a").status_code == 204
        head = f"POST /v1/{RUNTIMES}/container/%s HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {daemon.root}\r\nContent-Length: 2\r\n\r\n"
        with locked_directory(str(daemon.data_root / "catalog")):
            waiting = daemon.raw((head % "b" + "{}").encode())
            coming = daemon.raw((head % "c").encode())
            idle = daemon.raw(HEALTH)
            answered = b""
            while not answered.endswith(b"}\n"):
                answered += idle.recv(65536)
            daemon.send(signal.SIGTERM)
            assert daemon.told() == {"STOPPING": "1"}
            with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
                daemon.raw().close()
            with closing(idle):
                assert idle.recv(1) == b"", "one that rests is closed"
            coming.sendall(b"{}")
        for sock in (waiting, coming):
            with closing(sock):
                assert sock.recv(65536).startswith(b"HTTP/1.1 204 ")
        assert daemon.process.wait(DEADLINE_S) == 0
        assert sorted(line["status"] for line in lines(daemon)) == [204, 204, 204]

    def test_those_that_do_not_end_are_cut_off(self, make_daemon):
        daemon = make_daemon("grpc = false", "stop_timeout = 0.2").start()
        with daemon.client() as client:
            client.post(f"{RUNTIMES}/container/a")
        head = f"POST /v1/{RUNTIMES}/container/b HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {daemon.root}\r\nContent-Length: 2\r\n\r\n"
        with (
            locked_directory(str(daemon.data_root / "catalog")),
            closing(daemon.raw((head + "{}").encode())) as waiting,
            closing(daemon.raw(head.encode())) as coming,
        ):
            deadline = time.monotonic() + DEADLINE_S
            while "ocishim_http_requests_running 2.0" not in metrics(daemon):
                assert time.monotonic() < deadline
            assert daemon.stop() == 0
            for sock in (waiting, coming):
                answer = sock.recv(65536)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"the daemon stops" in answer
        assert left(daemon) == []
        assert "Traceback" not in daemon.log.read_text()


def metrics(daemon):
    with daemon.client() as client:
        return client.get("http://daemon/metrics").text


class TestReload:
    def test_of_limits(self, daemon):
        with daemon.client() as client:
            assert client.get(RUNTIMES).status_code == 200
            daemon.configure("grpc = false", "require_request_header = true")
            daemon.reload()
            assert client.get(RUNTIMES).status_code == 412, "also on the connection that was there"

    def test_of_what_cannot_be(self, daemon):
        daemon.configure("grpc = false", "require_request_header = 3")
        daemon.reload()
        assert (
            "the configuration stays what it was: daemon: require_request_header = 3"
            in daemon.log.read_text()
        )
        daemon.config.unlink()
        daemon.reload()
        with daemon.client() as client:
            assert client.get(RUNTIMES).status_code == 200

    def test_of_what_needs_a_restart(self, daemon):
        daemon.configure("grpc = false", f'socket = "{daemon.folder}/other.sock"')
        daemon.reload()
        assert "socket is another one now; that is in force after a restart" in daemon.log.read_text()
        with daemon.client() as client:
            assert client.get(RUNTIMES).status_code == 200
        assert daemon.stop() == 0
        assert left(daemon) == []

    def test_of_the_audit_log(self, daemon):
        with daemon.client() as client:
            client.get(RUNTIMES)
            until(lambda: daemon.audit.stat().st_size)
            old = daemon.audit.rename(daemon.audit.with_name("audit.log.1"))
            daemon.reload()
            client.get(f"{RUNTIMES}/container/a")
            until(daemon.audit.exists)
        daemon.stop()
        assert [line["status"] for line in lines(daemon)] == [404]
        assert len(old.read_text().splitlines()) == 1

    def test_many_at_once(self, make_daemon):
        """From before it is ready, to after it was told to stop."""
        daemon = make_daemon("grpc = false")

        def send():
            until(lambda: daemon.process and daemon.socket.exists())
            # No more than the loop's pipe for signals can hold.
            for _ in range(100):
                daemon.send(signal.SIGHUP)

        thread = threading.Thread(target=send)
        thread.start()
        daemon.start()
        with daemon.client() as client:
            assert client.get(RUNTIMES).status_code == 200
        thread.join()
        for _ in range(50):
            daemon.send(signal.SIGHUP)
        daemon.stop()
        assert "Traceback" not in daemon.log.read_text()


def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestTls:
    @pytest.fixture
    def secured(self, make_daemon, tmp_path):
        """A daemon on TCP, its authority, and what calls it: ``call(authority, client certificate)``."""
        authority = Authority(tmp_path)
        certificate, key = authority.issue("server")

        def start(*more):
            table = (
                "grpc = false",
                'tcp = "127.0.0.1:0"',
                f'tls_certificate = "{certificate}"',
                f'tls_key = "{key}"',
                *more,
            )
            daemon = make_daemon(*table).start()
            return daemon, lambda *trust: secure_client(daemon, daemon.port, *trust)

        return authority, start

    def test_with_a_token(self, secured):
        authority, start = secured
        daemon, connect = start()
        with connect(authority) as client:
            page = client.base_url.join("/metrics")
            assert client.get(RUNTIMES).json()["data"] == {"runtimes": []}
            assert client.get(RUNTIMES, headers={"X-Vault-Token": ""}).status_code == 403
            assert client.get(page, headers={"X-Vault-Token": ""}).status_code == 403
            assert client.get(page).status_code == 200
        daemon.stop()
        assert lines(daemon)[0]["client"]["address"].startswith("127.0.0.1:")

    def test_of_an_authority_that_nobody_knows(self, secured, tmp_path):
        _, start = secured
        daemon, connect = start()
        with connect(Authority(tmp_path, "stranger")) as client, pytest.raises(httpx.ConnectError):
            client.get("sys/health")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log.read_text()

    def test_with_a_certificate(self, secured, tmp_path):
        authority, start = secured
        clients = Authority(tmp_path, "clients")
        daemon, connect = start(f'tls_client_ca = "{clients.path}"')
        with connect(authority, clients.issue("me", "some client")) as client:
            assert client.get(RUNTIMES).status_code == 200
        for none in ((), (Authority(tmp_path, "others").issue("other"),)):
            with (
                connect(authority, *none) as client,
                pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)),
            ):
                client.get("sys/health")
        daemon.stop()
        (line,) = lines(daemon)
        assert line["client"]["certificate"] == "CN=some client"
        refused = [entry for entry in daemon.log.read_text().splitlines() if "being made" in entry]
        assert len(refused) == 2
        assert all(" from 127.0.0.1: " in entry for entry in refused), "who, and why"

    def test_who_keeps_connections_keeps_nobody_else_out(self, secured):
        """Not even with those that say nothing: neither another address, nor who comes by the unix socket."""
        authority, start = secured
        daemon, connect = start("max_connections = 4")
        with ExitStack() as stack:
            for _ in range(6):
                stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), DEADLINE_S))
            with daemon.client() as client:
                refused = 'ocishim_connections_refused_total{api="http"} 4.0'
                until(lambda: refused in client.get("http://daemon/metrics").text)
                with connect(authority, None, "127.0.0.2") as other:
                    assert other.get(RUNTIMES).status_code == 200
        assert daemon.stop() == 0

    def test_plain_http_is_no_tls(self, secured):
        _, start = secured
        daemon, connect = start()
        port = int(connect(None).base_url.port)
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
            sock.sendall(HEALTH)
            with suppress(ConnectionResetError):
                assert not sock.recv(100).startswith(b"HTTP")
        assert daemon.stop() == 0

    def test_a_renewed_certificate(self, secured):
        """New connections see it, and those that are there go on."""
        authority, start = secured
        daemon, connect = start()

        def serial():
            context = ssl.create_default_context(cafile=str(authority.path))
            port = int(connect(None).base_url.port)
            with (
                socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock,
                context.wrap_socket(sock, server_hostname="localhost") as secure,
            ):
                return secure.getpeercert()["serialNumber"]

        with connect(authority) as client:
            client.get("sys/health")
            before = serial()
            authority.issue("server")
            daemon.reload()
            assert serial() != before
            assert client.get("sys/health").status_code == 200
            new = serial()
            authority.path.with_name("server.key").write_text("rubbish")
            daemon.reload()
            assert serial() == new
        assert "the configuration stays what it was: daemon: tls_certificate" in daemon.log.read_text()

    def test_a_storm_of_hellos_ends(self, secured):
        """Connections that never say anything are dropped, also when the daemon stops."""
        _, start = secured
        daemon, connect = start()
        port = int(connect(None).base_url.port)
        silent = [socket.create_connection(("127.0.0.1", port), DEADLINE_S) for _ in range(20)]
        assert daemon.stop() == 0
        for sock in silent:
            with closing(sock):
                assert sock.recv(1) == b""


def secure_client(daemon, port, authority=None, certificate=None, source=None):
    context = ssl.create_default_context(cafile=str(authority.path) if authority else None)
    if certificate:
        context.load_cert_chain(*certificate)
    transport = httpx.HTTPTransport(verify=context, local_address=source)
    return httpx.Client(
        transport=transport,
        base_url=f"https://localhost:{port}/v1/",
        headers={"X-Vault-Token": daemon.root},
        timeout=DEADLINE_S,
    )


# What systemd does: it listens, and executes the program with the sockets at 3 and on.
LAUNCHER = """
import os, socket, sys
names = sys.argv[1].split(":")
made = []
for name in names:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(name + ".sock")
    sock.listen()
    made.append(sock)
copies = [__import__("fcntl").fcntl(sock, 0, 100) for sock in made]
for n, fd in enumerate(copies):
    os.dup2(fd, 3 + n)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_sockets_of_systemd(leaks, make_daemon):
    """It makes none, and removes none: they are systemd's."""
    daemon = make_daemon()
    os.chdir(daemon.folder)
    try:
        daemon.start(sys.executable, "-c", LAUNCHER, "http:grpc")
    finally:
        os.chdir("/")
    daemon.socket = daemon.folder / "http.sock"
    assert left(daemon) == ["events.sock", "grpc.sock", "http.sock"]
    with daemon.client() as client:
        assert client.get("sys/health").status_code == 200
    assert daemon.stop() == 0
    assert left(daemon) == ["grpc.sock", "http.sock"]


@pytest.mark.root
def test_members_of_a_group(make_daemon):
    daemon = make_daemon("grpc = false")
    other = daemon.folder / "open" / "daemon.sock"
    daemon.configure("grpc = false", 'socket_group = "4712"', f'socket = "{other}"')
    daemon.socket = other
    daemon.start()
    status = other.stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o660, 4712)
    for folder in (other.parent, daemon.folder, daemon.folder.parent):
        os.chmod(folder, 0o711)
    os.chmod(other, 0o666)
    said = {}

    def ask(gid):
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(4711, 4711, 4711)
        with closing(daemon.raw(HEALTH)) as sock:
            os.write(pipe[1], sock.recv(65536)[:12])

    for gid in (4712, 4713):
        pipe = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                ask(gid)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(pipe[1])
        said[gid] = os.read(pipe[0], 100)
        os.close(pipe[0])
    assert said == {4712: b"HTTP/1.1 200", 4713: b"HTTP/1.1 403"}
    assert "uid 4711, gid 4713 may not use the daemon" in daemon.log.read_text()


def test_what_nobody_reads_of_its_log_holds_nothing_up(make_daemon):
    """A pipe as stderr, full, and nobody at its other end."""
    daemon = make_daemon("grpc = false")
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    daemon.log.touch()
    daemon.start("sh", "-c", f'exec 2>/proc/{os.getpid()}/fd/{write}; exec "$@"', "sh")
    with daemon.client() as client:
        assert client.get("sys/health").status_code == 200
    daemon.reload()
    assert daemon.stop() == 0
    assert os.get_blocking(write), "the flags of what it shares are as they were"
    os.close(write)
    os.close(read)


def test_while_nobody_asks_it_sleeps(daemon):
    """Not even for the date, which is that of each answer."""
    with daemon.client() as client:

        def date():
            return parsedate_to_datetime(client.get("sys/health").headers["date"])

        first = date()
        status = Path(f"/proc/{daemon.process.pid}/status")
        before = woken(status)
        time.sleep(1.1)
        assert woken(status) - before <= 2
        assert date() > first


def woken(status):
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt")]
    return int(line.split()[1])


def test_many_clients_at_once(daemon):
    answers = []

    def ask():
        with daemon.client() as client:
            answers.extend(client.get(RUNTIMES).status_code for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 200
    daemon.stop()
    assert len(lines(daemon)) == 200
