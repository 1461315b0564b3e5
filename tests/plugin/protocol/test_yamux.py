"""yamux keeps every stream's bytes in order whatever the cut, and a peer's fault is said to be one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.plugin.protocol.yamux import WINDOW, Data, GoneAway, Opened, Reset, Session, Window, YamuxError

DATA, UPDATE, PING, AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


def frame(kind: int, flags: int, stream: int, length: int, body: bytes = b"", version: int = 0) -> bytes:
    return struct.pack(">BBHII", version, kind, flags, stream, length) + body


class Pair:
    """Two sessions, and what each has got on its streams."""

    def __init__(self) -> None:
        self.ends = Session(client=True), Session(client=False)
        self.got: list[dict[int, bytes]] = [{}, {}]
        self.ended: list[set[int]] = [set(), set()]

    def move(self, to: int, cut: int = 1 << 30) -> None:
        """What the other end has to send arrives, in pieces of ``cut`` bytes."""
        data = self.ends[1 - to].outgoing()
        for start in range(0, len(data), cut):
            for event in self.ends[to].receive(data[start : start + cut]):
                self.take(to, event)

    def take(self, to: int, event) -> None:
        if isinstance(event, Opened):
            self.ends[to].accept(event.id)
            self.got[to][event.id] = b""
        elif isinstance(event, Data):
            self.got[to][event.id] = self.got[to].get(event.id, b"") + event.data
            self.ends[to].consumed(event.id, len(event.data))
            if not event.data:
                self.ended[to].add(event.id)


steps = st.lists(
    st.tuples(
        st.sampled_from(["open", "send", "finish", "move"]),
        st.integers(0, 1),
        st.integers(0, 3),
        st.integers(1, 400_000),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(steps, st.integers(1, 50_000))
def test_what_is_sent_arrives_in_order_and_nothing_else(steps, cut):
    pair = Pair()
    streams: list[int] = []
    sent: list[dict[int, bytes]] = [{}, {}]
    finished: list[set[int]] = [set(), set()]
    for what, side, index, size in steps:
        if what == "open":
            streams.append(pair.ends[side].open())
            sent[0][streams[-1]] = sent[1][streams[-1]] = b""
            pair.move(1 - side, cut)
        elif what == "move":
            pair.move(side, cut)
        elif streams and (stream := streams[index % len(streams)]) not in finished[side]:
            if what == "finish":
                pair.ends[side].finish(stream)
                finished[side].add(stream)
            else:
                data = bytes([len(sent[side][stream]) % 251]) * size
                taken = pair.ends[side].send(stream, data)
                assert taken <= WINDOW
                sent[side][stream] += data[:taken]
    for _ in range(4):
        pair.move(0, cut)
        pair.move(1, cut)
    for side in (0, 1):
        assert {k: v for k, v in pair.got[side].items() if v} == {
            k: v for k, v in sent[1 - side].items() if v
        }
        assert pair.ended[side] == finished[1 - side]
        assert pair.ends[side]._streams.keys() == set(streams) - (finished[0] & finished[1])


def test_the_window_holds_the_sender_until_half_of_it_was_used():
    pair = Pair()
    stream = pair.ends[0].open()
    assert pair.ends[0].send(stream, bytes(WINDOW + 5)) == WINDOW
    assert pair.ends[0].send(stream, b"more") == 0
    events = pair.ends[1].receive(pair.ends[0].outgoing())
    assert events == [Opened(stream), Data(stream, bytes(WINDOW))]
    pair.ends[1].accept(stream)
    assert pair.ends[0].receive(pair.ends[1].outgoing()) == []
    pair.ends[1].consumed(stream, WINDOW // 2 - 1)
    assert pair.ends[1].outgoing() == b""
    pair.ends[1].consumed(stream, 1)
    assert pair.ends[0].receive(pair.ends[1].outgoing()) == [Window(stream)]
    assert pair.ends[0].send(stream, bytes(WINDOW)) == WINDOW // 2


def test_the_wire_is_that_of_the_specification():
    session = Session(client=True)
    assert session.open() == 1
    assert session.open() == 3
    session.send(1, b"abc")
    session.finish(1)
    session.reset(3)
    session.go_away()
    assert session.outgoing() == b"".join(
        [
            frame(UPDATE, SYN, 1, 0),
            frame(UPDATE, SYN, 3, 0),
            frame(DATA, 0, 1, 3, b"abc"),
            frame(UPDATE, FIN, 1, 0),
            frame(UPDATE, RST, 3, 0),
            frame(AWAY, 0, 0, 0),
        ]
    )
    assert session.outgoing() == b""
    assert Session(client=False).open() == 2


def test_pings_are_answered_and_answers_are_not():
    session = Session(client=True)
    assert session.receive(frame(PING, SYN, 0, 7) + frame(PING, ACK, 0, 8)) == []
    assert session.outgoing() == frame(PING, ACK, 0, 7)


def test_a_stream_may_begin_and_end_with_its_data():
    session = Session(client=True)
    events = session.receive(frame(DATA, SYN | FIN, 2, 2, b"hi"))
    assert events == [Opened(2), Data(2, b"hi"), Data(2, b"")]
    session.accept(2)
    session.finish(2)
    assert session._streams == {}


def test_what_comes_for_a_stream_that_is_gone_is_thrown_away():
    session = Session(client=True)
    stream = session.open()
    session.reset(stream)
    late = (
        frame(DATA, 0, stream, 1000, bytes(1000)) + frame(UPDATE, FIN, stream, 5) + frame(UPDATE, RST, 99, 0)
    )
    assert session.receive(late + frame(PING, SYN, 0, 1)) == []
    assert session.outgoing().endswith(frame(PING, ACK, 0, 1))
    with pytest.raises(YamuxError, match="has ended"):
        session.send(stream, b"x")
    session.consumed(stream, 5)
    session.finish(stream)
    assert session.outgoing() == b""


def test_a_reset_ends_both_directions():
    session = Session(client=True)
    stream = session.open()
    assert session.receive(frame(UPDATE, RST, stream, 0)) == [Reset(stream)]
    with pytest.raises(YamuxError):
        session.send(stream, b"x")


def test_a_peer_that_goes_away_gets_no_more_streams():
    session = Session(client=True)
    stream = session.open()
    assert session.receive(frame(AWAY, 0, 0, 0)) == [GoneAway()]
    with pytest.raises(YamuxError, match="no stream can be opened"):
        session.open()
    assert session.send(stream, b"still") == 5


def test_streams_that_nobody_accepts_are_not_kept_without_bound():
    session = Session(client=True)
    events = session.receive(b"".join(frame(UPDATE, SYN, 2 * n, 0) for n in range(1, 300)))
    assert len(events) == 256
    assert session.outgoing() == b"".join(frame(UPDATE, RST, 2 * n, 0) for n in range(257, 300))
    session.accept(2)
    assert session.receive(frame(UPDATE, SYN, 1000, 0)) == [Opened(1000)]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frame(DATA, 0, 1, 0, version=1), "not yamux: version 1"),
        (frame(4, 0, 0, 0), "not yamux: version 0, type 4"),
        (b"HTTP/1.1 400 Bad Request", "not yamux: version 72"),
        (frame(UPDATE, SYN, 3, 0), "opened stream 3, which it must not"),
        (frame(UPDATE, SYN, 0, 0), "opened stream 0, which it must not"),
        (frame(UPDATE, SYN, 2, 0) * 2, "opened stream 2, which it must not"),
        (frame(DATA, SYN, 2, WINDOW + 1), "got 262145 bytes, 262144 were free"),
        (frame(DATA, SYN, 2, WINDOW, bytes(WINDOW)) + frame(DATA, 0, 2, 1), "got 1 bytes, 0 were free"),
        (frame(AWAY, 0, 0, 1), "takes the connection down for an error, 1"),
    ],
)
def test_a_fault_of_the_peer_is_told(data, text):
    with pytest.raises(YamuxError, match=text):
        Session(client=True).receive(data)


frames = st.builds(
    lambda kind, flags, stream, body: frame(kind, flags, stream, len(body), body if kind == DATA else b""),
    st.integers(0, 3),
    st.integers(0, 15),
    st.integers(0, 6),
    st.binary(max_size=40),
)


@given(st.lists(frames | st.binary(max_size=30), max_size=30).map(b"".join))
def test_of_anything_else_nothing_but_its_fault_comes(data):
    session = Session(client=True)
    session.open()
    try:
        session.receive(data)
    except YamuxError as error:
        outcome = error
    else:
        outcome = None
    assert outcome is None or "\n" not in str(outcome)
