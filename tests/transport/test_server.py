"""The server on real sockets: what it answers, what it survives, what it forgets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import subprocess
import sys
import threading

import pytest
from google.protobuf.empty_pb2 import Empty
from support.serving import DEADLINE_S, SERVICE

from shim import errors
from shim.errors import Code
from shim.proto.task_v3_pb2 import StateRequest, StateResponse, WaitRequest, WaitResponse
from shim.proto.ttrpc_pb2 import Request
from shim.transport import peer
from shim.transport.client import Client
from shim.transport.server import CallContext, Method
from shim.ttrpc import MAX_DATA, Kind
from shim.ttrpc.frames import DATA, REQUEST, encode_frame

MiB = 1 << 20


class Gate:
    """A handler that waits until it is let through, and tells what happened to it."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = threading.Event()
        self.finished = threading.Event()
        self._open = asyncio.Event()

    async def handler(self, _request, _context) -> WaitResponse:
        self.started.set()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        self.finished.set()
        return WaitResponse(exit_status=7)

    def method(self, *, shielded: bool = False) -> Method:
        return Method(self.handler, WaitRequest, shielded)

    def open(self, server) -> None:
        server.loop.call_soon_threadsafe(self._open.set)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def raising(error: BaseException) -> Method:
    async def handler(_request, _context):
        raise error

    return Method(handler, Empty)


def awaiting(seconds: float = 0.0):
    return asyncio.sleep(seconds)


# Answers.


def test_a_message_comes_back(serve):
    with serve().client() as client:
        assert client.call(SERVICE, "Echo", StateRequest(id="abc"), StateResponse).id == "abc"


def test_none_is_an_empty_message(serve):
    with serve().raw() as raw:
        raw.request("Nothing")
        response = raw.response()
        assert response.payload == b""
        assert not response.HasField("status")


def test_a_plain_function_is_a_handler(serve):
    def handler(request, _context):
        if not request.id:
            raise errors.NotFound("nobody")
        return StateResponse(id=request.id)

    with serve(At=Method(handler, StateRequest)).client() as client:
        assert client.call(SERVICE, "At", StateRequest(id="x"), StateResponse).id == "x"
        with pytest.raises(errors.NotFound, match="nobody"):
            client.call(SERVICE, "At", StateRequest(), StateResponse)


def test_a_call_that_waits_holds_up_nobody(serve, gate):
    server = serve(Wait=gate.method())
    with server.client() as client:
        wait = client.start(SERVICE, "Wait", WaitRequest(), WaitResponse)
        for n in range(10):
            assert client.call(SERVICE, "Echo", StateRequest(id=str(n)), StateResponse).id == str(n)
        assert not wait.done
        gate.open(server)
        assert wait.result().exit_status == 7


def test_many_requests_in_one_write_are_all_answered(serve):
    with serve().raw() as raw:
        wires = [
            raw.machine.open_stream(Request(service=SERVICE, method="Nothing").SerializeToString())
            for _ in range(1000)
        ]
        raw.sock.sendall(b"".join(wire for _, wire in wires))
        assert sorted(raw.responses(1000)) == [stream_id for stream_id, _ in wires]


@pytest.mark.parametrize("waits", [False, True])
def test_the_handler_knows_namespace_metadata_and_deadline(serve, waits):
    seen: list[CallContext] = []

    async def handler(_request, context):
        if waits:
            await awaiting()
        seen.append(context)

    server = serve(See=Method(handler, Empty))
    with server.raw() as raw:
        pairs = [("containerd-namespace-ttrpc", "k8s.io"), ("k", "first"), ("k", "second")]
        raw.request("See", metadata=[{"key": k, "value": v} for k, v in pairs], timeout_nano=60 * 10**9)
        raw.request("See")
        raw.responses(2)
    told, bare = seen
    assert told.namespace == "k8s.io"
    assert told.metadata == {"containerd-namespace-ttrpc": "k8s.io", "k": "first"}
    assert told.deadline is not None
    assert (bare.namespace, bare.deadline, bare.metadata) == (None, None, {})


# Errors.


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.NotFound("container x"), Code.NOT_FOUND, "container x: not found"),
        (errors.FailedPrecondition("not now"), Code.FAILED_PRECONDITION, "not now: failed precondition"),
        (errors.Unknown("OCI runtime create failed"), Code.UNKNOWN, "OCI runtime create failed"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), Code.NOT_FOUND, f"{SERVICE}/Fail /x: No such file: not found"),
        (OSError(errno.ENOSPC, "No space"), Code.RESOURCE_EXHAUSTED, f"{SERVICE}/Fail: No space: resource exhausted"),
        (TimeoutError(), Code.DEADLINE_EXCEEDED, f"{SERVICE}/Fail: context deadline exceeded"),
        (asyncio.CancelledError(), Code.CANCELED, f"{SERVICE}/Fail: context canceled"),
        (errors.NotFound("undecodable \udcff"), Code.NOT_FOUND, "undecodable ?: not found"),
    ],
)  # fmt: skip
def test_errors_have_the_code_of_their_kind(serve, error, code, text):
    with serve(Fail=raising(error)).raw() as raw:
        raw.request("Fail")
        status = raw.response().status
        assert (status.code, status.message) == (code, text)


def test_a_fault_of_ours_is_internal_and_logged_with_its_traceback(serve, caplog):
    with serve(Fail=raising(KeyError("oops"))).raw() as raw:
        raw.request("Fail")
        status = raw.response().status
    assert (status.code, status.message) == (Code.INTERNAL, f"{SERVICE}/Fail: KeyError: 'oops': internal")
    (record,) = caplog.records
    assert record.exc_info is not None


def test_a_handler_that_returns_no_message_is_our_fault(serve, caplog):
    async def handler(_request, _context):
        return 42

    with serve(Fail=Method(handler, Empty)).raw() as raw:
        raw.request("Fail")
        assert raw.response().status.code == Code.INTERNAL
    assert len(caplog.records) == 1


def test_a_long_error_text_is_cut(serve):
    with serve(Fail=raising(errors.Unknown("x" * (5 * MiB)))).raw() as raw:
        raw.request("Fail")
        assert 1000 < len(raw.response().status.message) < 100_000


def test_unknown_names_are_unimplemented_in_the_words_containerd_expects(serve):
    with serve().raw() as raw:
        raw.request("Nowhere")
        status = raw.response().status
        assert (status.code, status.message) == (Code.UNIMPLEMENTED, "method Nowhere")
        request = Request(service="containerd.task.v9.Task", method="Create").SerializeToString()
        status = raw.answer_to(encode_frame(101, REQUEST, 0, request), 101).status
        assert (status.code, status.message) == (Code.UNIMPLEMENTED, "service containerd.task.v9.Task")


def test_what_cannot_be_decoded_is_an_invalid_argument(serve):
    with serve().raw() as raw:
        status = raw.answer_to(encode_frame(1, REQUEST, 0, b"\xff\xff"), 1).status
        assert status.code == Code.INVALID_ARGUMENT
        raw.machine._last_id = 1
        raw.request("Echo", b"\x0a\xff")
        status = raw.response().status
        assert status.code == Code.INVALID_ARGUMENT
        assert "Echo" in status.message


def test_bad_ids_and_dead_streams_are_invalid_arguments_and_the_connection_lives(serve):
    with serve().raw() as raw:
        raw.request("Nothing")
        raw.response()
        for wire, stream_id in [
            (encode_frame(2, REQUEST, 0, b""), 2),
            (encode_frame(1, REQUEST, 0, b""), 1),
            (encode_frame(99, DATA, 0, b"x"), 99),
        ]:
            assert raw.answer_to(wire, stream_id).status.code == Code.INVALID_ARGUMENT
        raw.sock.sendall(encode_frame(1, 77, 0, b"unknown type"))
        raw.request("Nothing")
        assert raw.response().status.code == 0


def test_streams_are_unimplemented_for_unary_methods(serve):
    with serve().raw() as raw:
        request = Request(service=SERVICE, method="Nothing").SerializeToString()
        for kind in (Kind.SERVER_STREAM, Kind.BIDI_STREAM):
            _, wire = raw.machine.open_stream(request, kind)
            raw.sock.sendall(wire)
            assert raw.response().status.code == Code.UNIMPLEMENTED


def test_data_on_a_running_unary_call_ends_the_call(serve, gate):
    with serve(Wait=gate.method()).raw() as raw:
        stream_id = raw.request("Wait")
        raw.sock.sendall(encode_frame(stream_id, DATA, 0, b"x"))
        assert raw.response().status.code == Code.INVALID_ARGUMENT
        assert gate.cancelled.wait(DEADLINE_S)


def test_a_request_that_is_too_large_is_answered_and_the_connection_lives(serve):
    with serve().raw() as raw:
        size = MAX_DATA + 1
        header = size.to_bytes(4) + (1).to_bytes(4) + bytes([REQUEST, 0])
        status = raw.answer_to(header + bytes(size), 1).status
        assert status.code == Code.RESOURCE_EXHAUSTED
        raw.machine._last_id = 1
        raw.request("Nothing")
        assert raw.response().status.code == 0


@pytest.mark.parametrize("waits", [False, True])
def test_an_answer_that_is_too_large_becomes_an_error(serve, waits):
    async def handler(_request, _context):
        if waits:
            await awaiting()
        return StateResponse(id="x" * MAX_DATA)

    with serve(Large=Method(handler, Empty)).raw() as raw:
        raw.request("Large")
        status = raw.response().status
        assert status.code == Code.RESOURCE_EXHAUSTED
        assert str(MAX_DATA) in status.message


def test_too_many_calls_at_once_are_refused(serve, gate, monkeypatch):
    monkeypatch.setattr(peer, "MAX_CALLS", 3)
    server = serve(Wait=gate.method())
    with server.raw() as raw:
        for _ in range(3):
            raw.request("Wait")
        raw.request("Wait")
        assert raw.response().status.code == Code.RESOURCE_EXHAUSTED
        gate.open(server)
        assert all(response.status.code == 0 for response in raw.responses(3).values())


# Deadlines.


def test_a_deadline_is_answered_and_ends_the_handler(serve, gate):
    server = serve(Wait=gate.method())
    with server.raw() as raw:
        raw.request("Wait", timeout_nano=1_000_000)
        status = raw.response().status
        assert (status.code, status.message) == (
            Code.DEADLINE_EXCEEDED,
            f"{SERVICE}/Wait: context deadline exceeded",
        )
        assert gate.cancelled.wait(DEADLINE_S)
        server.until(lambda: server.server.calls == 0)


def test_a_shielded_handler_outlives_its_deadline(serve, gate):
    server = serve(Wait=gate.method(shielded=True))
    with server.raw() as raw:
        raw.request("Wait", timeout_nano=1_000_000)
        assert raw.response().status.code == Code.DEADLINE_EXCEEDED
        assert server.ask(lambda: server.server.calls) == 1
        gate.open(server)
        assert gate.finished.wait(DEADLINE_S)
        raw.request("Nothing")
        assert raw.response().status.code == 0


@pytest.mark.parametrize("nanos", [-1, 2**63 - 1])
def test_extreme_deadlines(serve, nanos, gate):
    server = serve(Wait=gate.method())
    with server.raw() as raw:
        raw.request("Wait", timeout_nano=nanos)
        if nanos > 0:
            gate.open(server)
        assert raw.response().status.code == (0 if nanos > 0 else Code.DEADLINE_EXCEEDED)


# Connections that end.


def test_a_lost_connection_cancels_what_is_not_shielded(serve):
    free, shielded = Gate(), Gate()
    idle = threading.Event()
    server = serve(idle.set, Free=free.method(), Shielded=shielded.method(shielded=True))
    with server.raw() as raw:
        raw.request("Free")
        raw.request("Shielded")
        assert free.started.wait(DEADLINE_S)
        assert shielded.started.wait(DEADLINE_S)
        assert server.ask(lambda: (server.server.connections, server.server.calls)) == (1, 2)
    assert free.cancelled.wait(DEADLINE_S)
    server.until(lambda: server.server.calls == 1)
    assert server.ask(lambda: server.server.connections) == 0
    assert not idle.is_set()
    shielded.open(server)
    assert idle.wait(DEADLINE_S)
    assert shielded.finished.is_set()
    assert server.ask(lambda: server.server.idle)


def test_idle_is_told_when_the_last_connection_goes(serve):
    idle = threading.Event()
    server = serve(idle.set)
    one, two = server.raw(), server.raw()
    server.until(lambda: server.server.connections == 2)
    one.sock.close()
    server.until(lambda: server.server.connections == 1)
    assert not idle.is_set()
    two.sock.close()
    assert idle.wait(DEADLINE_S)


def test_a_client_that_shuts_down_its_side_is_disconnected(serve):
    with serve().raw() as raw:
        raw.sock.shutdown(socket.SHUT_WR)
        assert raw.sock.recv(1) == b""


def test_an_end_inside_a_frame_is_logged(serve, caplog):
    with serve().raw() as raw:
        raw.sock.sendall(b"\0\0\0")
        raw.sock.shutdown(socket.SHUT_WR)
        assert raw.sock.recv(1) == b""
    assert "inside a frame" in caplog.text


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(10),
        b"\xff" * 4096,
        os.urandom(65536),
    ],
)
def test_garbage_harms_nobody_else(serve, garbage):
    server = serve()
    with server.raw() as raw:
        raw.sock.sendall(garbage)
        with server.client() as client:
            assert client.call(SERVICE, "Echo", StateRequest(id="x"), StateResponse).id == "x"


def test_a_client_that_leaves_a_thousand_requests_behind_is_no_news(serve, caplog):
    server = serve()
    request = Request(service=SERVICE, method="Nothing").SerializeToString()
    with server.raw() as raw:
        raw.sock.sendall(b"".join(raw.machine.open_stream(request)[1] for _ in range(1000)))
    server.until(lambda: server.server.connections == 0)
    assert caplog.records == []


def test_a_shielded_handler_that_fails_unwatched_is_logged(serve, caplog):
    go = asyncio.Event()

    async def handler(_request, _context):
        await go.wait()
        raise errors.Unknown("it did not work")

    server = serve(Fail=Method(handler, Empty, shielded=True))
    with server.raw() as raw:
        raw.request("Fail")
        server.until(lambda: server.server.calls == 1)
    server.until(lambda: server.server.connections == 0)
    server.loop.call_soon_threadsafe(go.set)
    server.until(lambda: server.server.calls == 0)
    assert "it did not work" in caplog.text


# Closing.


def test_close_lets_running_calls_answer(serve, gate):
    server = serve(Wait=gate.method())
    with server.raw() as busy, server.raw() as bored:
        busy.request("Wait")
        assert gate.started.wait(DEADLINE_S)
        closing = asyncio.run_coroutine_threadsafe(server.server.close(grace_s=DEADLINE_S), server.loop)
        assert bored.sock.recv(1) == b""
        with pytest.raises(errors.Unavailable):
            server.client()
        assert not closing.done()
        gate.open(server)
        assert busy.response().status.code == 0
        assert busy.sock.recv(1) == b""
        closing.result(DEADLINE_S)


def test_close_gives_clients_time_to_hang_up(serve):
    """To Go's client an answer that the end of the connection follows at once is sometimes no answer."""
    server = serve()
    with server.raw() as raw:
        raw.request("Echo")
        assert raw.response().status.code == 0
        closing = server.server.close(linger_s=DEADLINE_S)
        closed = asyncio.run_coroutine_threadsafe(closing, server.loop)
        server.until(lambda: not server.server._listeners)
        raw.request("Echo")
        assert raw.response().status.code == Code.UNAVAILABLE
        assert not closed.done()
    closed.result(DEADLINE_S)


def test_close_does_not_wait_for_ever(serve):
    free, shielded = Gate(), Gate()
    server = serve(Free=free.method(), Shielded=shielded.method(shielded=True))
    with server.raw() as raw:
        raw.request("Free")
        raw.request("Shielded")
        assert shielded.started.wait(DEADLINE_S)
        server.run(server.server.close(grace_s=0.05))
        assert {response.status.code for response in raw.responses(2).values()} == {Code.CANCELED}
        assert free.cancelled.is_set()
        assert shielded.cancelled.is_set()


def test_close_does_not_wait_for_a_client_that_does_not_read(serve):
    async def large(_request, _context):
        return StateResponse(id="x" * MiB)

    server = serve(Large=Method(large, Empty))
    with server.raw() as raw:
        for _ in range(4):
            raw.request("Large")
        server.until(lambda: any(one._full for one in server.server._peers))
        server.run(server.server.close(grace_s=0.05))
        assert server.server.connections == 0


# Clients that do not read.


def test_a_client_that_does_not_read_is_not_served_further(serve):
    count = 0

    async def large(_request, _context):
        nonlocal count
        count += 1
        return StateResponse(id="x" * MiB)

    server = serve(Large=Method(large, Empty))
    with server.raw() as raw, server.client() as other:
        # In one write: many small ones would fill the socket's buffer, since nobody reads them.
        request = Request(service=SERVICE, method="Large").SerializeToString()
        raw.sock.sendall(b"".join(raw.machine.open_stream(request)[1] for _ in range(200)))
        server.until(lambda: any(one._full for one in server.server._peers))
        for _ in range(20):
            other.call(SERVICE, "Nothing", Empty(), Empty)
        assert server.ask(lambda: count) < 5
        assert all(response.status.code == 0 for response in raw.responses(200).values())
    assert count == 200


def test_a_client_that_lets_running_calls_pile_up_is_disconnected(serve, gate, monkeypatch, caplog):
    monkeypatch.setattr(peer, "MAX_UNREAD", 8 * MiB)

    async def large(_request, _context):
        await gate._open.wait()
        return StateResponse(id="x" * MiB)

    server = serve(Large=Method(large, Empty))
    with server.raw() as raw:
        for _ in range(64):
            raw.request("Large")
        server.until(lambda: server.server.calls == 64)
        gate.open(server)
        server.until(lambda: server.server.connections == 0)
    assert "does not read" in caplog.text


# Crowds and shortages.


@contextlib.contextmanager
def file_limit(at_least: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, at_least), max(hard, at_least)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.root
def test_a_thousand_idle_connections(serve):
    server = serve()
    with file_limit(4096), contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(server.raw())
        server.until(lambda: server.server.connections == 1000)
        with server.client() as client:
            assert client.call(SERVICE, "Echo", StateRequest(id="x"), StateResponse).id == "x"
    server.until(lambda: server.server.connections == 0)


FEW_DESCRIPTORS = """
import asyncio, logging, resource, socket, sys
from google.protobuf.empty_pb2 import Empty
from shim.transport.server import Method, Server

async def nothing(request, context):
    return None

async def main():
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(sys.argv[1])
    sock.listen(128)
    server = Server({"s": {"Nothing": Method(nothing, Empty)}})
    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
    await server.serve(sock)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()

logging.basicConfig(format="%(message)s")
asyncio.run(main())
"""


def test_no_descriptors_left(state_root):
    path = str(state_root / "few.sock")
    argv = [sys.executable, "-c", FEW_DESCRIPTORS, path]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        crowd = [Client.connect(path) for _ in range(60)]
        waiting = crowd[-1].start("s", "Nothing", Empty(), Empty)
        crowd[0].call("s", "Nothing", Empty(), Empty)
        for client in crowd[:-1]:
            client.close()
        waiting.result()
        crowd[-1].close()
        _, log = process.communicate()
    assert process.returncode == 0
    assert log.splitlines() == [
        f"cannot accept connections for now: {os.strerror(errno.EMFILE)}",
        "accepting connections again",
    ]


# Who may connect.


@pytest.mark.root
@pytest.mark.parametrize(("uid", "gid"), [(65534, 65534), (65534, 0), (0, 65534)])
def test_another_user_or_group_is_refused(caplog, uid, gid):
    connect = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.exit(len(s.recv(1)))"

    async def main() -> tuple[int, int]:
        from shim.transport.server import Server  # noqa: PLC0415

        server = Server({})
        listening = socket.socket(socket.AF_UNIX)
        listening.bind("")  # an abstract address: no directory stands in the way
        listening.listen()
        name = listening.getsockname().decode()
        await server.serve(listening)
        stranger = await asyncio.create_subprocess_exec(
            "/usr/bin/env",
            "python3",
            "-c",
            connect.replace("sys.argv[1]", f"{name!r}"),
            user=uid,
            group=gid,
            extra_groups=[],
        )
        code = await stranger.wait()
        connections = server.connections
        await server.close()
        return code, connections

    assert asyncio.run(main()) == (0, 0)
    assert f"its uid is {uid}, its gid {gid}" in caplog.text


def test_nothing_is_left_behind(leaks, serve, gate, caplog):
    caplog.set_level(logging.CRITICAL)
    server = serve(Wait=gate.method(), Fail=raising(KeyError("x")))
    for _ in range(50):
        with server.raw() as raw:
            raw.request("Wait")
            raw.request("Fail")
            raw.response()
    server.until(lambda: server.server.idle)
