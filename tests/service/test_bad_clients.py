"""Clients that break the rules, at the socket of a real shim: the answer, one line in the log, and the shim serves on.

What the server does in each case is tested in tests/transport; here it is that a shim is put together so.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from support import bed
from support.client_streams import DEADLINE_S
from support.serving import Raw
from support.shims import Shim, options, raises

from shim.errors import Code, InvalidArgument
from shim.proto.task_v3_pb2 import CreateTaskRequest, WaitRequest
from shim.proto.ttrpc_pb2 import Request
from shim.ttrpc import MAX_DATA
from shim.ttrpc.frames import DATA, REQUEST, RESPONSE, encode_frame

pytestmark = pytest.mark.root

TASK = "containerd.task.v3.Task"


@pytest.fixture
def raw(shim: Shim) -> Iterator[Raw]:
    """A connection for any bytes; the shim serves on whatever they were."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(shim.process.address.removeprefix("unix://"))
    sock.settimeout(DEADLINE_S)
    with Raw(sock) as raw:
        yield raw
    assert shim.call("Connect", id="x").shim_pid == shim.process.pid


@pytest.fixture
def logged(shim: Shim):
    """Counts the lines with these words that this test caused."""
    start = shim.process.log.stat().st_size
    return lambda words: shim.process.log.read_bytes()[start:].decode().count(words)


def request(method: str = "Connect", service: str = TASK, payload: bytes = b"") -> bytes:
    return Request(service=service, method=method, payload=payload).SerializeToString()


def outcome(raw: Raw, wire: bytes, stream_id: int) -> tuple[int, str]:
    status = raw.answer_to(wire, stream_id).status
    return status.code, status.message


def test_bad_ids(raw: Raw, logged):
    """Even, used again, smaller, and data that belongs to no request."""
    assert outcome(raw, encode_frame(2, REQUEST, 0, request()), 2)[0] == Code.INVALID_ARGUMENT
    assert outcome(raw, encode_frame(7, REQUEST, 0, request()), 7)[0] == Code.OK
    for stream_id in (7, 5):
        code, text = outcome(raw, encode_frame(stream_id, REQUEST, 0, request()), stream_id)
        assert code == Code.INVALID_ARGUMENT
        assert f"stream id {stream_id}" in text
    code, text = outcome(raw, encode_frame(99, DATA, 0, b"x"), 99)
    assert (code, "no longer active" in text) == (Code.INVALID_ARGUMENT, True)
    assert outcome(raw, encode_frame(9, REQUEST, 0, request()), 9)[0] == Code.OK
    assert logged("level=warning") == logged(f"client with pid {os.getpid()}: ") == 1


def test_unknown_names(raw: Raw, logged):
    wire = encode_frame(1, REQUEST, 0, request("Fly"))
    assert outcome(raw, wire, 1) == (Code.UNIMPLEMENTED, "method Fly")
    wire = encode_frame(3, REQUEST, 0, request(service="containerd.task.v9.Task"))
    assert outcome(raw, wire, 3) == (Code.UNIMPLEMENTED, "service containerd.task.v9.Task")
    assert logged(f"client with pid {os.getpid()}: method Fly") == logged("level=info") == 1


def test_what_cannot_be_decoded(raw: Raw, logged):
    for stream_id, payload in ((1, b"\xff\xff"), (3, request(payload=b"\xff\xff"))):
        code, text = outcome(raw, encode_frame(stream_id, REQUEST, 0, payload), stream_id)
        assert (code, "cannot be decoded" in text) == (Code.INVALID_ARGUMENT, True)
    assert logged("level=warning") == logged("the request cannot be decoded") == 1


def test_an_empty_namespace(shim: Shim, raw: Raw, logged):
    """What is made belongs to a namespace; what is asked does not."""
    bundle = shim.make_bundle(["true"])
    sent = {"key": "containerd-namespace-ttrpc", "value": ""}
    payload = CreateTaskRequest(id="c", bundle=str(bundle)).SerializeToString()
    create = Request(service=TASK, method="Create", payload=payload, metadata=[sent])
    code, text = outcome(raw, encode_frame(1, REQUEST, 0, create.SerializeToString()), 1)
    assert (code, text) == (Code.FAILED_PRECONDITION, "namespace is required: failed precondition")
    assert logged(f"{TASK}/Create: namespace is required") == 1
    assert os.listdir(bundle) == ["config.json"]


def test_a_frame_that_is_too_large(raw: Raw, logged):
    """It is read to its end and thrown away; the next one is answered."""
    size = MAX_DATA + 1
    wire = size.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([REQUEST, 0]) + bytes(size)
    code, text = outcome(raw, wire, 1)
    assert (code, str(size) in text) == (Code.RESOURCE_EXHAUSTED, True)
    assert logged("level=warning") == logged(text) == 1
    assert outcome(raw, encode_frame(3, REQUEST, 0, request()), 3)[0] == Code.OK


def test_frames_of_the_future_and_of_servers(raw: Raw):
    for kind in (0, RESPONSE, 4, 255):
        raw.sock.sendall(encode_frame(1, kind, 0xFF, b"x"))
    assert outcome(raw, encode_frame(1, REQUEST, 0, request()), 1)[0] == Code.OK


def test_an_end_inside_a_frame_is_said_once(raw: Raw, logged):
    raw.sock.sendall(encode_frame(1, REQUEST, 0, request())[:-1])
    raw.sock.shutdown(socket.SHUT_WR)
    assert raw.sock.recv(1) == b""
    assert logged("the connection ended inside a frame") == 1


def test_a_client_that_leaves_while_it_waits(shim: Shim, raw: Raw, logged):
    """Its Wait ends with it; the container knows nothing of it."""
    container = shim.running()
    wait = request("Wait", payload=WaitRequest(id=container.id).SerializeToString())
    raw.sock.sendall(encode_frame(1, REQUEST, 0, wait))
    raw.sock.close()
    bed.until(lambda: shim.inspect()["connections"] == 1, "the connection stays")
    assert container.state() == "RUNNING"
    assert logged("level=warning") == 0


@contextmanager
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_connections(shim: Shim):
    path = shim.process.address.removeprefix("unix://")
    container = shim.running()
    with many_files(), ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        bed.until(lambda: shim.inspect()["connections"] >= 1001, "not all are accepted")
        assert container.state() == "RUNNING"
        assert container.end() == 137
    bed.until(lambda: shim.inspect()["connections"] == 1, "some connections stay")


@pytest.mark.parametrize(("uid", "gid"), [(65534, 65534), (0, 65534)], ids=["user", "group"])
def test_another_user_or_group(shim: Shim, logged, uid: int, gid: int):
    """No directory and no mode in its way, and still it is not served."""
    socket_path = Path(shim.process.address.removeprefix("unix://"))
    opened = [shim.process.root, socket_path.parent, socket_path]
    before = [path.stat().st_mode for path in opened]
    connect = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "try: sys.exit(len(s.recv(1)))\n"
        "except ConnectionResetError: pass"
    )
    try:
        for path in opened:
            path.chmod(0o777)
        done = subprocess.run(
            ["/usr/bin/python3", "-c", connect, str(socket_path)],
            user=uid,
            group=gid,
            extra_groups=[],
            cwd="/",
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        for path, mode in zip(opened, before, strict=True):
            path.chmod(mode)
    assert done.returncode == 0
    assert logged(f"its uid is {uid}, its gid {gid}") == 1


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (AnyMessage(type_url="some.Options"), ["some.Options", "known"]),
        (AnyMessage(type_url="containerd.runc.v1.Options", value=b"\xff"), ["cannot be decoded"]),
        (AnyMessage(type_url="runtimeoptions.v1.Options", value=b"\xff"), ["cannot be decoded"]),
        (options(runtim="runc"), ["unknown key 'runtim'"]),
    ],
    ids=["unknown", "undecodable runc", "undecodable runtime", "unknown key"],
)
def test_options_that_cannot_be(shim: Shim, logged, sent, words):
    bundle = shim.make_bundle(["true"])
    with raises(InvalidArgument, *words):
        shim.call("Create", id="c1", bundle=str(bundle), options=sent)
    assert logged(f"{TASK}/Create: ") == 1
    assert os.listdir(bundle) == ["config.json"]
