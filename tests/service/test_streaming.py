"""Standard streams over ttrpc: parked and matched, windows, ends, and clients that come back."""

from __future__ import annotations

import pytest
from support import bed
from support.shims import PROCESS_URL, Container, Shim, json_any, options, raises
from support.stream_client import StdStream, StreamClient, packed

from shim.errors import AlreadyExists, Code, InvalidArgument
from shim.proto.streaming_pb2 import StreamInit
from shim.proto.transfer_pb2 import Data, WindowUpdate

pytestmark = pytest.mark.root

WINDOW = 64 << 10


def uri(shim: Shim, stream_id: str) -> str:
    return f"ttrpc+unix://{shim.process.address.removeprefix('unix://')}?streaming_id={stream_id}"


def created(shim: Shim, args: list[str], *wanted: str, terminal: bool = False, name: str = "") -> Container:
    """A container with these streams, each named after the container."""
    name = name or shim.new_id()
    bundle = shim.make_bundle(args, terminal=terminal)
    fields = {stream: uri(shim, f"{name}-{stream}") for stream in wanted}
    answer = shim.call("Create", id=name, bundle=str(bundle), options=options(), terminal=terminal, **fields)
    return Container(shim, name, bundle, answer.pid)


def client(shim: Shim, stream_id: str) -> StdStream:
    return StdStream(shim.process.address, stream_id)


def test_clients_come_first(shim: Shim):
    """As CRI's do: the streams are announced before the container is made."""
    name = shim.new_id()
    with (
        client(shim, f"{name}-stdout") as out,
        client(shim, f"{name}-stderr") as err,
        client(shim, f"{name}-stdin") as stdin,
    ):
        assert out.acknowledged.type_url == "google.protobuf.Empty"
        args = ["sh", "-c", "cat; echo problem >&2; exit 3"]
        container = created(shim, args, "stdin", "stdout", "stderr", name=name)
        container.start()
        assert stdin.window() == WINDOW
        stdin.write(b"hello ")
        stdin.write(b"world")
        stdin.close_sending()
        assert out.rest() == b"hello world"
        assert err.rest() == b"problem\n"
        assert container.wait() == 3
        assert (out.ended, err.ended) == (None, None)
        assert stdin.receive() is None
        container.delete()


def test_clients_come_late(shim: Shim):
    """What they did not see waits for them, as in a FIFO; after the end, too."""
    container = created(shim, ["sh", "-c", "echo early"], "stdout")
    container.start()
    container.wait()
    with client(shim, f"{container.id}-stdout") as out:
        assert out.rest() == b"early\n"
    with client(shim, f"{container.id}-stdout") as out:
        assert out.rest() == b""
    container.delete()


def test_nothing_is_sent_that_was_not_asked_for(shim: Shim):
    container = created(shim, ["sh", "-c", "head -c 1000000 /dev/zero"], "stdout")
    container.start()
    with client(shim, f"{container.id}-stdout") as out:
        out.widen(5)
        assert out.read(5) == bytes(5)
        out.widen(100_000)
        assert out.read(100_000) == bytes(100_000)
        assert out.messages == []
        assert container.state() == "RUNNING"
        assert out.rest() == bytes(899_995)
    assert container.wait() == 0
    container.delete()


def test_chunks_are_small(shim: Shim):
    container = created(shim, ["sh", "-c", "head -c 300000 /dev/zero"], "stdout")
    container.start()
    with client(shim, f"{container.id}-stdout") as out:
        out.widen(1 << 20)
        sizes = []
        while (message := out.content()) is not None:
            sizes.append(len(Data.FromString(message.value).data))
    assert sum(sizes) == 300_000
    assert max(sizes) <= 32 << 10
    container.wait()
    container.delete()


def test_a_megabyte_both_ways(shim: Shim):
    container = created(shim, ["cat"], "stdin", "stdout")
    container.start()
    data = bytes(range(256)) * 4096
    with client(shim, f"{container.id}-stdin") as stdin, client(shim, f"{container.id}-stdout") as out:
        out.widen(1 << 30)
        echoed, left, position = b"", stdin.window(), 0
        while position < len(data):
            chunk = data[position : position + min(left, 32 << 10)]
            stdin.write(chunk)
            position += len(chunk)
            left -= len(chunk)
            echoed += out.read(len(chunk))
            while left <= 0 or stdin.messages:
                left += stdin.window()
        stdin.close_sending()
        echoed += out.rest()
    assert echoed == data
    assert container.wait() == 0
    container.delete()


def test_a_client_that_comes_back(shim: Shim):
    """containerd was killed and started again: nothing is lost, nothing comes twice."""
    container = created(
        shim, ["sh", "-c", "i=0; while [ $i -lt 9999 ]; do echo $i; i=$((i+1)); done"], "stdout"
    )
    container.start()
    data = b""
    for _ in range(3):
        with client(shim, f"{container.id}-stdout") as out:
            out.widen(4000)
            data += out.read(4000)
    with client(shim, f"{container.id}-stdout") as out:
        data += out.rest()
    assert data == b"".join(b"%d\n" % number for number in range(9999))
    assert container.wait() == 0
    container.delete()


def test_of_two_clients_the_later_one_is_served(shim: Shim):
    container = created(shim, ["cat"], "stdin", "stdout")
    container.start()
    with client(shim, f"{container.id}-stdout") as old, client(shim, f"{container.id}-stdin") as stdin:
        old.widen(1 << 20)
        stdin.write(b"one")
        assert old.read(3) == b"one"
        with client(shim, f"{container.id}-stdout") as new:
            assert old.receive() is None
            assert old.ended.code == Code.CANCELED
            new.widen(1 << 20)
            stdin.write(b"two")
            assert new.read(3) == b"two"
            stdin.close_sending()
            assert new.rest() == b""
    container.wait()
    container.delete()


def test_stdin_stays_open_when_its_client_vanishes(shim: Shim):
    """Only a half close, or CloseIO when nobody is there, is an end; what was sent arrives."""
    container = created(shim, ["cat"], "stdin", "stdout")
    container.start()
    with client(shim, f"{container.id}-stdout") as out:
        out.widen(1 << 20)
        for text in (b"first", b"second"):
            with client(shim, f"{container.id}-stdin") as stdin:
                stdin.window()
                stdin.write(text)
            assert out.read(len(text)) == text
        assert container.state() == "RUNNING"
        container.call("CloseIO", stdin=True)
        assert out.rest() == b""
    assert container.wait() == 0
    container.delete()


def test_close_io_waits_for_the_client(shim: Shim):
    container = created(shim, ["cat"], "stdin", "stdout")
    container.start()
    with client(shim, f"{container.id}-stdin") as stdin:
        stdin.window()
        container.call("CloseIO", stdin=True)
        stdin.write(b"still")
        stdin.close_sending()
        with client(shim, f"{container.id}-stdout") as out:
            assert out.rest() == b"still"
    container.wait()
    container.delete()


def test_a_process_that_reads_nothing(shim: Shim):
    """Its client cannot send without end, and its stream ends with the delete."""
    container = created(shim, ["sleep", "1000"], "stdin")
    container.start()
    with client(shim, f"{container.id}-stdin") as stdin:
        assert stdin.window() == WINDOW
        for _ in range(2):
            stdin.write(bytes(WINDOW // 2))
        assert container.end() == 137
        allowed = 0
        while (message := stdin.content()) is not None:
            allowed += WindowUpdate.FromString(message.value).update
        assert allowed <= WINDOW
        assert stdin.ended is None


def test_terminal(shim: Shim):
    container = created(shim, ["sh", "-c", "read x; echo got $x"], "stdin", "stdout", terminal=True)
    container.start()
    with client(shim, f"{container.id}-stdin") as stdin, client(shim, f"{container.id}-stdout") as out:
        stdin.window()
        stdin.write(b"it\n")
        assert out.rest() == b"it\r\ngot it\r\n"
    assert container.wait() == 0
    container.delete()


def test_execs(shim: Shim):
    container = created(shim, ["sleep", "1000"])
    container.start()
    spec = json_any(PROCESS_URL, {"args": ["echo", "inside"], "cwd": "/", "env": ["PATH=/bin"]})
    for _ in range(2):  # the id is free again after the delete
        with client(shim, "e-stdout") as out:
            container.call("Exec", exec_id="e", spec=spec, stdout=uri(shim, "e-stdout"))
            container.start("e")
            assert out.rest() == b"inside\n"
            container.wait("e")
            container.delete("e")


def test_a_client_that_slept_still_gets_all_after_the_delete(shim: Shim):
    container = created(shim, ["echo", "last words"], "stdout")
    container.start()
    with client(shim, f"{container.id}-stdout") as out:
        container.wait()
        container.delete()
        assert out.rest() == b"last words\n"


# What clients do wrong.


def test_an_id_that_nobody_has_waits(shim: Shim):
    with client(shim, "nobody"), client(shim, "nobody") as again:
        again.close_sending()
    bed.until(lambda: shim.inspect()["connections"] == 1, "connections stay")


def test_one_id_for_two_processes(shim: Shim):
    container = created(shim, ["sleep", "1000"], "stdout")
    bundle = shim.make_bundle(["true"])
    with raises(AlreadyExists, f"{container.id}-stdout"):
        stdout = uri(shim, f"{container.id}-stdout")
        shim.call("Create", id="other", bundle=str(bundle), options=options(), stdout=stdout)
    container.delete()


@pytest.mark.parametrize(
    "fields",
    [
        {"stdout": "ttrpc+unix:///s"},
        {"stdout": "ttrpc+unix:///s?streaming_id="},
        {"stdout": "ttrpc+unix:///s?streaming_id=x", "stderr": "/fifo"},
        {"stdin": "ttrpc+unix:///s?other=x"},
        {"stdout": "grpc+unix:///s?streaming_id=x"},
    ],
)
def test_addresses_that_cannot_be(shim: Shim, fields):
    with raises(InvalidArgument, "unix"):
        shim.call("Create", id="c1", bundle=str(shim.make_bundle(["true"])), options=options(), **fields)


@pytest.mark.parametrize("first", [Data(data=b"x"), StreamInit()], ids=["data", "bare"])
def test_what_is_no_announcement(shim: Shim, first):
    with StreamClient(shim.process.address) as stream:
        stream.send(packed(first) if isinstance(first, Data) else first)
        assert stream.receive() is None
        assert stream.ended.code == Code.INVALID_ARGUMENT


def test_nonsense_where_a_message_was_due(shim: Shim):
    container = created(shim, ["sleep", "1000"], "stdin", "stdout")
    with client(shim, f"{container.id}-stdin") as stdin, client(shim, f"{container.id}-stdout") as out:
        stdin.window()
        stdin.write(bytes(WINDOW + 1))
        assert stdin.receive() is None
        assert stdin.ended.code == Code.INVALID_ARGUMENT
        assert "window" in stdin.ended.message
        out.widen(-1)
        assert out.receive() is None
        assert out.ended.code == Code.INVALID_ARGUMENT
    container.delete()


def test_too_much_at_once(shim: Shim):
    """A client that floods a stream which nobody reads yet loses it."""
    with client(shim, "nobody") as stream:
        stream.write(bytes(2 << 20))
        assert stream.receive() is None
        assert stream.ended.code == Code.RESOURCE_EXHAUSTED
    assert shim.call("Connect", id="x").shim_pid
