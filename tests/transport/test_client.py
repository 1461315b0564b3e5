"""The blocking client against real servers, and against sockets that behave as no server should."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import subprocess
import sys
import threading

import pytest
from support.serving import DEADLINE_S, SERVICE

from shim.errors import DeadlineExceeded, Internal, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from shim.proto.task_v3_pb2 import StateRequest, StateResponse
from shim.proto.ttrpc_pb2 import Request, Response
from shim.transport.client import MAX_PATH, Client, socket_path
from shim.transport.server import Method
from shim.ttrpc import MAX_DATA, Connection, RequestReceived, Role
from shim.ttrpc.frames import RESPONSE, encode_frame

MiB = 1 << 20


class Peer:
    """The server's end of a connection, in the hands of the test."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.machine = Connection(Role.SERVER)
        self.requests: list[tuple[int, Request]] = []

    def read(self, count: int = 1) -> list[tuple[int, Request]]:
        while len(self.requests) < count:
            for event in self.machine.receive_data(self.sock.recv(65536)):
                assert isinstance(event, RequestReceived)
                self.requests.append((event.stream_id, Request.FromString(event.payload)))
        taken, self.requests = self.requests[:count], self.requests[count:]
        return taken

    def answer(self, stream_id: int, **fields) -> None:
        self.sock.sendall(self.machine.send_response(stream_id, Response(**fields).SerializeToString()))


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    theirs.settimeout(DEADLINE_S)
    with theirs, Client(ours, "peer", "ns") as client:
        yield client, Peer(theirs)


def ask(client: Client, timeout: float | None = DEADLINE_S):
    return client.start(SERVICE, "Echo", StateRequest(id="q"), StateResponse, timeout)


# Addresses.


@pytest.mark.parametrize(
    ("address", "path"),
    [("unix:///run/x.sock", "/run/x.sock"), ("/run/x.sock", "/run/x.sock"), ("x.sock", "x.sock")],
)
def test_addresses(address, path):
    assert socket_path(address) == path


@pytest.mark.parametrize("address", ["", "unix://", "tcp://127.0.0.1:1", "vsock://2:1024", "/a\0b"])
def test_addresses_that_cannot_be(address):
    with pytest.raises(InvalidArgument):
        socket_path(address)


def test_the_longest_path_and_one_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    longest = "s" * MAX_PATH
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(longest)
        listening.listen()
        Client.connect(longest).close()
    with pytest.raises(InvalidArgument, match=r"108 bytes is longer than the 107"):
        Client.connect(longest + "s")
    with pytest.raises(InvalidArgument, match="110 bytes"):
        socket_path("ü" * 55)


# Connecting.


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unavailable, match=r"x\.sock.*the shim is gone"):
        Client.connect("unix://x.sock")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("x.sock")
    with pytest.raises(Unavailable, match=r"x\.sock.*the shim is gone"):
        Client.connect("unix://x.sock")


def test_a_server_that_does_not_accept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind("x.sock")
        listening.listen(0)
        first.connect("x.sock")
        with pytest.raises(DeadlineExceeded, match="accepts no connection"):
            Client.connect("x.sock", timeout=0.02)
        listening.accept()[0].close()
        Client.connect("x.sock").close()


def test_no_file_descriptor_is_lost_when_connecting_fails(leaks, tmp_path):
    for _ in range(20):
        with pytest.raises(Unavailable):
            Client.connect(str(tmp_path / "none.sock"))


# Calls.


def test_what_a_request_carries(ends):
    client, peer = ends
    ask(client, 5.0)
    ask(client, None)
    (first, request), (second, endless) = peer.read(2)
    assert (first, second) == (1, 3)
    assert (request.service, request.method) == (SERVICE, "Echo")
    assert StateRequest.FromString(request.payload).id == "q"
    assert 0 < request.timeout_nano <= 5 * 10**9
    assert [(pair.key, pair.value) for pair in request.metadata] == [("containerd-namespace-ttrpc", "ns")]
    assert endless.timeout_nano == 0


def test_answers_in_any_order(ends):
    client, peer = ends
    calls = [ask(client) for _ in range(3)]
    for stream_id, _ in reversed(peer.read(3)):
        peer.answer(stream_id, payload=StateResponse(pid=stream_id).SerializeToString())
    assert [call.result().pid for call in calls] == [1, 3, 5]
    assert calls[0].result() is calls[0].result()


def test_errors_are_raised_by_their_code_without_the_suffix(ends):
    client, peer = ends
    call = ask(client)
    peer.answer(peer.read()[0][0], status={"code": 5, "message": "container x: not found"})
    for _ in range(2):
        with pytest.raises(NotFound, match=r"^container x$"):
            call.result()


@pytest.mark.parametrize("payload", [b"\xff", Response(payload=b"\xff").SerializeToString()])
def test_an_answer_that_cannot_be_decoded(ends, payload):
    client, peer = ends
    call = ask(client)
    stream_id = peer.read()[0][0]
    peer.sock.sendall(peer.machine.send_response(stream_id, payload))
    with pytest.raises(Internal, match="Echo"):
        call.result()


def test_an_answer_that_is_too_large_fails_its_call_alone(ends):
    client, peer = ends
    call, other = ask(client), ask(client)
    large = threading.Thread(
        target=peer.sock.sendall,
        args=(bytes([0, 0x40, 0, 1, 0, 0, 0, 1, RESPONSE, 0]) + bytes(MAX_DATA + 1),),
    )
    large.start()
    with pytest.raises(ResourceExhausted):
        call.result()
    large.join()
    peer.answer(peer.read(2)[1][0])
    assert other.result() == StateResponse()


def test_a_request_that_is_too_large_is_not_sent(ends):
    client, peer = ends
    with pytest.raises(ResourceExhausted):
        client.call(SERVICE, "Echo", StateRequest(id="x" * MAX_DATA), StateResponse)
    call = ask(client)
    peer.answer(peer.read()[0][0])
    assert call.result() == StateResponse()


def test_a_call_that_gets_no_answer_in_time_leaves_the_connection_good(ends):
    client, peer = ends
    with pytest.raises(DeadlineExceeded, match="Echo"):
        ask(client, 0.001).result()
    late = peer.read()[0][0]
    call = ask(client)
    peer.answer(late, status={"code": 4})
    peer.answer(peer.read()[0][0])
    assert call.result() == StateResponse()


def test_select_and_receive(ends):
    client, peer = ends
    call = ask(client)
    client.receive()
    assert not call.done
    wire = peer.machine.send_response(peer.read()[0][0], b"")
    peer.sock.sendall(wire[:3])
    assert select.select([client], [], [], DEADLINE_S)[0] == [client]
    client.receive()
    assert not call.done
    peer.sock.sendall(wire[3:])
    select.select([client], [], [], DEADLINE_S)
    client.receive()
    assert call.done


def test_large_requests_and_large_answers_meet(serve):
    async def large(_request, _context):
        return StateResponse(id="x" * MiB)

    with serve(Large=Method(large, StateRequest)).client() as client:
        request = StateRequest(id="x" * MiB)
        calls = [client.start(SERVICE, "Large", request, StateResponse, DEADLINE_S) for _ in range(40)]
        assert all(len(call.result().id) == MiB for call in calls)


# Connections that end.


def test_a_connection_closed_by_the_server_fails_everything(ends):
    client, peer = ends
    calls = [ask(client), ask(client)]
    peer.read(2)
    peer.sock.close()
    for call in calls:
        with pytest.raises(Unavailable, match="closed the connection"):
            call.result()
    with pytest.raises(Unavailable):
        ask(client)
    client.receive()
    assert client.fileno() == -1


def test_answers_that_came_before_the_end_count(ends):
    client, peer = ends
    answered, lost = ask(client), ask(client)
    peer.answer(peer.read(2)[0][0])
    peer.sock.close()
    with pytest.raises(Unavailable):
        lost.result()
    assert answered.result() == StateResponse()


def test_an_end_inside_a_frame(ends):
    client, peer = ends
    call = ask(client)
    peer.sock.sendall(encode_frame(1, RESPONSE, 0, b"abc")[:-1])
    peer.read()
    peer.sock.close()
    with pytest.raises(Unavailable, match="inside a frame"):
        call.result()


def test_sending_on_a_connection_that_is_gone_raises_no_signal(ends):
    client, peer = ends
    peer.sock.close()
    with pytest.raises(Unavailable, match="closed the connection"):
        ask(client)


def test_close_fails_what_is_pending(ends):
    client, _ = ends
    call = ask(client)
    client.close()
    client.close()
    with pytest.raises(Unavailable, match="closed here"):
        call.result()


def test_a_server_that_does_not_read(ends):
    client, _ = ends
    with pytest.raises(DeadlineExceeded, match="does not take"):
        client.call(SERVICE, "Echo", StateRequest(id="x" * MiB), StateResponse, 0.01)
    with pytest.raises(Unavailable):
        ask(client)


def test_answers_that_came_before_a_failed_request_count(ends):
    client, peer = ends
    answered, lost = ask(client), ask(client)
    peer.answer(peer.read(2)[0][0])
    peer.sock.close()
    with pytest.raises(Unavailable):
        ask(client)
    assert answered.result() == StateResponse()
    with pytest.raises(Unavailable):
        lost.result()


def test_a_timeout_of_centuries(ends):
    client, peer = ends
    call = ask(client, 1e15)
    stream_id, request = peer.read()[0]
    assert request.timeout_nano == 2**63 - 1
    threading.Timer(0.01, peer.answer, [stream_id]).start()
    assert call.result() == StateResponse()


def test_errors_that_are_raised_again_do_not_grow(ends):
    client, _ = ends
    call = ask(client)
    client.close()
    depths = set()
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            call.result()
        depths.add(len(caught.traceback))
    assert len(depths) == 1


# Signals.


@contextlib.contextmanager
def alarm(action, when=lambda: True):
    """``action`` is called once in a signal handler, soon, but not before ``when``. The signal repeats: one that comes just before a system
    call that waits does not end it."""
    done = []

    def handler(*_):
        if not done and when():
            done.append(1)
            action()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert done


def interrupt():
    raise KeyboardInterrupt


def test_an_interrupt_while_waiting_leaves_client_and_call_good(ends):
    client, peer = ends
    call = ask(client, None)
    with pytest.raises(KeyboardInterrupt), alarm(interrupt):
        call.result()
    assert not call.done
    other = ask(client)
    for stream_id, _ in reversed(peer.read(2)):
        peer.answer(stream_id, payload=StateResponse(pid=stream_id).SerializeToString())
    assert (other.result().pid, call.result().pid) == (3, 1)


def test_an_interrupt_between_socket_and_machine_closes_the_connection(ends, monkeypatch):
    client, peer = ends
    call = ask(client)
    peer.answer(peer.read()[0][0])

    def interrupted(_machine, _data):
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "receive_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call.result()
    with pytest.raises(Unavailable, match="interrupted"):
        call.result()


def test_an_interrupt_inside_a_request_closes_the_connection(ends):
    client, peer = ends

    def half_sent():
        return bool(select.select([peer.sock], [], [], 0)[0])

    with pytest.raises(KeyboardInterrupt), alarm(interrupt, half_sent):
        client.call(SERVICE, "Echo", StateRequest(id="x" * MiB), StateResponse)
    with pytest.raises(Unavailable, match="interrupted"):
        ask(client)


def test_a_signal_that_raises_nothing_changes_nothing(ends):
    client, peer = ends
    call = ask(client)
    with alarm(lambda: peer.answer(peer.read()[0][0])):
        assert call.result() == StateResponse()


def test_the_client_does_not_load_asyncio():
    code = "import sys, shim.transport.client; sys.exit('asyncio' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
