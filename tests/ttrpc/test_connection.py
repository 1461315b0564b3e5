"""Both ends of a connection, every event sent through a pair of machines, whole and byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shim.errors import Code, ResourceExhausted
from shim.ttrpc import (
    MAX_DATA,
    Connection,
    ConnectionClosed,
    DataReceived,
    Kind,
    LocalProtocolError,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
    Role,
    StreamClosed,
    StreamRejected,
)
from shim.ttrpc.frames import DATA, NO_DATA, REMOTE_CLOSED, REMOTE_OPEN, REQUEST, RESPONSE, encode_frame
from shim.ttrpc.states import TRANSITIONS


class Pair:
    """A client and a server; what one sends, a pair of twins of the other receives in two different cuts."""

    def __init__(self) -> None:
        self.client = Connection(Role.CLIENT)
        self.server = Connection(Role.SERVER)
        self._twin = {Role.CLIENT: Connection(Role.CLIENT), Role.SERVER: Connection(Role.SERVER)}

    def to_server(self, wire: bytes) -> list:
        return self._deliver(self.server, wire)

    def to_client(self, wire: bytes) -> list:
        return self._deliver(self.client, wire)

    def _deliver(self, to: Connection, wire: bytes) -> list:
        events = to.receive_data(wire) if wire else []
        twin = self._twin[to.role]
        bytewise = [event for i in range(len(wire)) for event in twin.receive_data(wire[i : i + 1])]
        assert bytewise == events
        return events

    def open(self, payload: bytes = b"", kind: Kind = Kind.UNARY) -> int:
        twin_id, _ = self._twin[Role.CLIENT].open_stream(payload, kind)
        stream_id, wire = self.client.open_stream(payload, kind)
        assert stream_id == twin_id
        assert self.to_server(wire) == [RequestReceived(stream_id, payload, kind)]
        return stream_id

    def by_client(self, method: str, *args) -> list:
        return self._by(self.client, method, args)

    def by_server(self, method: str, *args) -> list:
        return self._by(self.server, method, args)

    def _by(self, sender: Connection, method: str, args) -> list:
        wire = getattr(sender, method)(*args)
        assert getattr(self._twin[sender.role], method)(*args) == wire
        return self.to_client(wire) if sender is self.server else self.to_server(wire)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def rejection(events: list) -> StreamRejected:
    (event,) = events
    assert isinstance(event, StreamRejected)
    return event


# What is allowed.


def test_unary_call(pair):
    one, two = pair.open(b"first"), pair.open(b"second")
    assert (one, two) == (1, 3)
    assert pair.by_server("send_response", two, b"2") == [ResponseReceived(two, b"2")]
    assert pair.by_server("send_response", one, b"1") == [ResponseReceived(one, b"1")]
    assert pair.client.streams == pair.server.streams == 0


def test_server_stream(pair):
    stream = pair.open(b"request", Kind.SERVER_STREAM)
    assert pair.by_server("send_data", stream, b"a") == [DataReceived(stream, b"a")]
    assert pair.by_server("send_data", stream, b"") == [DataReceived(stream, b"")]
    assert pair.by_server("close_stream", stream) == [StreamClosed(stream)]
    assert pair.client.streams == pair.server.streams == 0


def test_client_stream(pair):
    stream = pair.open(b"", Kind.BIDI_STREAM)
    assert pair.by_client("send_data", stream, b"a") == [DataReceived(stream, b"a")]
    assert pair.by_client("close_stream", stream) == [StreamClosed(stream)]
    assert pair.by_server("send_response", stream, b"done") == [ResponseReceived(stream, b"done")]
    assert pair.client.streams == pair.server.streams == 0


def test_bidi_stream_with_the_client_closing_last(pair):
    stream = pair.open(b"", Kind.BIDI_STREAM)
    assert pair.by_client("send_data", stream, b"a") == [DataReceived(stream, b"a")]
    assert pair.by_server("send_data", stream, b"b") == [DataReceived(stream, b"b")]
    assert pair.by_server("close_stream", stream) == [StreamClosed(stream)]
    with pytest.raises(LocalProtocolError, match="finished"):
        pair.client.send_data(stream, b"too late")


def test_a_stream_may_end_with_an_error_at_any_time(pair):
    for kind in Kind:
        stream = pair.open(b"", kind)
        assert pair.by_server("send_response", stream, b"error") == [ResponseReceived(stream, b"error")]
    assert pair.client.streams == 0


def test_a_last_message_in_the_closing_frame_is_a_message_and_a_close(pair):
    stream = pair.open(b"", Kind.BIDI_STREAM)
    last = encode_frame(stream, DATA, REMOTE_CLOSED, b"last")
    assert pair.to_server(last) == [DataReceived(stream, b"last"), StreamClosed(stream)]
    assert pair.to_client(last) == [DataReceived(stream, b"last"), StreamClosed(stream)]


def test_an_empty_data_frame_is_a_message_unless_it_says_no_data(pair):
    stream = pair.open(b"", Kind.BIDI_STREAM)
    assert pair.to_server(encode_frame(stream, DATA, 0, b"")) == [DataReceived(stream, b"")]
    assert pair.to_server(encode_frame(stream, DATA, NO_DATA, b"")) == []


def test_gaps_between_ids_are_allowed():
    server = Connection(Role.SERVER)
    wire = encode_frame(7, REQUEST, 0, b"") + encode_frame(2**32 - 1, REQUEST, 0, b"")
    assert [event.stream_id for event in server.receive_data(wire)] == [7, 2**32 - 1]


# What costs a frame or a stream.


@pytest.mark.parametrize("stream_id", [0, 2, 4])
def test_even_ids_are_refused(stream_id):
    server = Connection(Role.SERVER)
    refused = rejection(server.receive_data(encode_frame(stream_id, REQUEST, 0, b"")))
    assert (refused.stream_id, refused.code, refused.finished) == (stream_id, Code.INVALID_ARGUMENT, False)
    assert server.reject(stream_id, b"no") == encode_frame(stream_id, RESPONSE, 0, b"no")


def test_a_reused_id_is_refused_and_its_owner_goes_on(pair):
    stream = pair.open()
    refused = rejection(pair.to_server(encode_frame(stream, REQUEST, 0, b"again")))
    assert (refused.code, refused.finished) == (Code.INVALID_ARGUMENT, False)
    assert pair.by_server("send_response", stream, b"ok") == [ResponseReceived(stream, b"ok")]


def test_ids_do_not_go_back(pair):
    pair.to_server(encode_frame(9, REQUEST, 0, b""))
    assert rejection(pair.to_server(encode_frame(7, REQUEST, 0, b""))).code == Code.INVALID_ARGUMENT


def test_ends_of_a_stream_may_cross(pair):
    """The client's, on its way when the server ended the stream; refused, it would be an error in containerd's log."""
    stream = pair.open(b"", Kind.BIDI_STREAM)
    pair.by_server("close_stream", stream)
    end = REMOTE_CLOSED | NO_DATA
    assert pair.to_server(encode_frame(stream, DATA, end, b"")) == []
    assert rejection(pair.to_server(encode_frame(stream, DATA, REMOTE_CLOSED, b"x"))).finished is False
    assert rejection(pair.to_server(encode_frame(stream + 2, DATA, end, b""))).finished is False


def test_data_on_an_unknown_stream_is_refused_by_the_server_and_ignored_by_the_client(pair):
    data = encode_frame(11, DATA, 0, b"x")
    refused = rejection(pair.to_server(data))
    assert (refused.code, refused.finished) == (Code.INVALID_ARGUMENT, False)
    assert "no longer active" in refused.text
    assert pair.to_client(data) == []


@pytest.mark.parametrize("kind", [Kind.UNARY, Kind.SERVER_STREAM])
@pytest.mark.parametrize("flags", [0, REMOTE_CLOSED | NO_DATA])
def test_data_that_the_client_may_not_send_ends_the_stream(pair, kind, flags):
    stream = pair.open(b"", kind)
    refused = rejection(pair.to_server(encode_frame(stream, DATA, flags, b"")))
    assert (refused.stream_id, refused.code, refused.finished) == (stream, Code.INVALID_ARGUMENT, True)
    with pytest.raises(LocalProtocolError):
        pair.server.send_response(stream, b"nobody waits for this")
    assert pair.to_client(pair.server.reject(stream, b"error")) == [ResponseReceived(stream, b"error")]


def test_data_on_a_unary_call_fails_it_at_the_client(pair):
    stream = pair.open()
    refused = rejection(pair.to_client(encode_frame(stream, DATA, 0, b"x")))
    assert (refused.stream_id, refused.code, refused.finished) == (stream, Code.INTERNAL, True)
    assert pair.client.streams == 0


def oversized(stream_id: int, type_: int) -> bytes:
    # A header is enough to say so; the body follows in portions.
    size = MAX_DATA + 1
    return size.to_bytes(4) + stream_id.to_bytes(4) + bytes([type_, 0])


def drained(connection: Connection, stream_id: int, type_: int) -> list:
    events = connection.receive_data(oversized(stream_id, type_))
    for _ in range(MAX_DATA // 65536):
        events += connection.receive_data(bytes(65536))
        assert connection.buffered == 0
    return events + connection.receive_data(b"\0")


def test_an_oversized_request_is_answered_and_the_connection_lives():
    server = Connection(Role.SERVER)
    refused = rejection(drained(server, 1, REQUEST))
    assert (refused.stream_id, refused.code, refused.finished) == (1, Code.RESOURCE_EXHAUSTED, False)
    assert server.receive_data(encode_frame(3, REQUEST, 0, b"")) == [RequestReceived(3, b"", Kind.UNARY)]
    assert rejection(server.receive_data(encode_frame(1, REQUEST, 0, b""))).code == Code.INVALID_ARGUMENT


def test_an_oversized_message_ends_its_stream():
    server = Connection(Role.SERVER)
    server.receive_data(encode_frame(1, REQUEST, REMOTE_OPEN, b""))
    refused = rejection(drained(server, 1, DATA))
    assert (refused.stream_id, refused.code, refused.finished) == (1, Code.RESOURCE_EXHAUSTED, True)
    assert server.streams == 0
    assert rejection(drained(server, 1, DATA)).finished is False


@pytest.mark.parametrize("type_", [RESPONSE, DATA])
def test_an_oversized_answer_fails_its_call(type_):
    client = Connection(Role.CLIENT)
    stream, _ = client.open_stream(b"")
    refused = rejection(drained(client, stream, type_))
    assert (refused.stream_id, refused.code, refused.finished) == (stream, Code.RESOURCE_EXHAUSTED, True)
    assert drained(client, stream, type_) == []


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("type_", [0, 4, 5, 17, 255])
def test_unknown_types_are_ignored(role, type_):
    connection = Connection(role)
    assert connection.receive_data(encode_frame(1, type_, 7, b"from the future")) == []
    assert drained(connection, 1, type_) == []


def test_frames_in_the_wrong_direction_are_ignored(pair):
    stream = pair.open()
    assert pair.to_server(encode_frame(stream, RESPONSE, 0, b"")) == []
    assert pair.to_client(encode_frame(stream, REQUEST, 0, b"")) == []
    assert pair.by_server("send_response", stream, b"ok") == [ResponseReceived(stream, b"ok")]


def test_the_late_answer_of_a_forgotten_call_is_ignored():
    client = Connection(Role.CLIENT)
    stream, _ = client.open_stream(b"")
    client.forget(stream)
    client.forget(stream)
    assert client.receive_data(encode_frame(stream, RESPONSE, 0, b"late")) == []
    assert client.streams == 0


# What ends the connection.


@pytest.mark.parametrize("role", Role)
def test_the_end_after_a_whole_frame(role):
    connection = Connection(role)
    connection.receive_data(encode_frame(1, REQUEST, 0, b"x"))
    assert connection.receive_data(b"") == [ConnectionClosed()]
    assert connection.streams == 0


def test_the_end_at_every_place_inside_a_frame():
    wire = encode_frame(1, REQUEST, 0, b"payload")
    for cut in range(1, len(wire)):
        server = Connection(Role.SERVER)
        server.receive_data(wire[:cut])
        with pytest.raises(RemoteProtocolError):
            server.receive_data(b"")
    server = Connection(Role.SERVER)
    server.receive_data(oversized(1, REQUEST))
    with pytest.raises(RemoteProtocolError):
        server.receive_data(b"")


# What we may not do.


def test_our_own_mistakes_change_nothing(pair):
    stream = pair.open()
    for wrong in (
        lambda: pair.server.open_stream(b""),
        lambda: pair.client.send_response(stream, b""),
        lambda: pair.client.send_data(stream, b""),
        lambda: pair.client.close_stream(stream),
        lambda: pair.client.reject(stream, b""),
        lambda: pair.server.send_data(stream, b""),
        lambda: pair.server.close_stream(stream),
        lambda: pair.server.send_response(stream + 2, b""),
    ):
        with pytest.raises(LocalProtocolError):
            wrong()
    assert pair.by_server("send_response", stream, b"ok") == [ResponseReceived(stream, b"ok")]


def test_what_is_too_large_is_not_sent_and_the_stream_waits_for_a_smaller_one(pair):
    large = bytes(MAX_DATA + 1)
    with pytest.raises(ResourceExhausted):
        pair.client.open_stream(large)
    stream = pair.open()
    assert stream == 1
    with pytest.raises(ResourceExhausted):
        pair.server.send_response(stream, large)
    assert pair.by_server("send_response", stream, b"too large") == [ResponseReceived(stream, b"too large")]


def test_a_connection_ends_with_its_ids():
    client = Connection(Role.CLIENT)
    client._last_id = 2**32 - 3
    stream, _ = client.open_stream(b"")
    assert stream == 2**32 - 1
    with pytest.raises(LocalProtocolError, match="used up"):
        client.open_stream(b"")


# Whatever comes.


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(Role), st.lists(st.binary(min_size=1, max_size=80)))
def test_garbage_raises_only_remote_protocol_errors(role, portions):
    connection = Connection(role)
    if role is Role.CLIENT:
        connection.open_stream(b"")
    try:
        for portion in [*portions, b""]:
            connection.receive_data(portion)
    except RemoteProtocolError:
        pass


small_frames = st.builds(
    encode_frame,
    st.integers(0, 9),
    st.integers(0, 4),
    st.integers(0, 7),
    st.binary(max_size=4),
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(Role), st.lists(small_frames, max_size=30))
def test_well_formed_nonsense_raises_nothing_and_leaves_no_more_streams_than_requests(role, frames):
    connection = Connection(role)
    if role is Role.CLIENT:
        for kind in Kind:
            connection.open_stream(b"", kind)
    events = [event for frame in frames for event in connection.receive_data(frame)]
    opened = [event for event in events if isinstance(event, RequestReceived)]
    assert connection.streams <= len(opened) + (3 if role is Role.CLIENT else 0)
    assert connection.receive_data(b"") == [ConnectionClosed()]


class TwoEnds(RuleBasedStateMachine):
    """Whatever two correct ends do, with frames on their way, nobody is refused and both forget every stream."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = Connection(Role.CLIENT), Connection(Role.SERVER)
        self.up, self.down = bytearray(), bytearray()

    @rule(kind=st.sampled_from(Kind))
    def opens(self, kind):
        self.up += self.client.open_stream(b"request", kind)[1]

    @rule(
        data=st.data(),
        at_client=st.booleans(),
        verb=st.sampled_from(["send_data", "close_stream", "send_response"]),
    )
    def sends(self, data, at_client, verb):
        end, buffer = (self.client, self.up) if at_client else (self.server, self.down)
        message = {"send_data": "data", "close_stream": "close", "send_response": "response"}[verb]
        able = [stream for stream, state in end._streams.items() if (state, end._us, message) in TRANSITIONS]
        if not able:
            return
        stream = data.draw(st.sampled_from(able))
        buffer += getattr(end, verb)(stream, *([] if verb == "close_stream" else [b"x"]))

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def arrives_at_the_server(self, data):
        count = data.draw(st.integers(1, len(self.up)))
        self._arrives(self.server, self.up, count)

    @precondition(lambda self: self.down)
    @rule(data=st.data())
    def arrives_at_the_client(self, data):
        count = data.draw(st.integers(1, len(self.down)))
        self._arrives(self.client, self.down, count)

    def _arrives(self, end: Connection, buffer: bytearray, count: int) -> None:
        for event in end.receive_data(bytes(buffer[:count])):
            # A server that ends a stream cannot know that the client is sending on it just now.
            late = end is self.server and "no longer active" in getattr(event, "text", "")
            assert late or not isinstance(event, StreamRejected)
        del buffer[:count]

    @invariant()
    def agree_when_nothing_is_on_its_way(self):
        if not self.up and not self.down:
            assert self.client._streams == self.server._streams

    def teardown(self):
        if self.up:
            self._arrives(self.server, self.up, len(self.up))
        if self.down:
            self._arrives(self.client, self.down, len(self.down))
        assert self.client._streams == self.server._streams


TwoEnds.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestTwoEnds = TwoEnds.TestCase
