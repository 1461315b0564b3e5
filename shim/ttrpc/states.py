"""The life of one stream, as a table.

Two rules make this file the only one to look at. Every change of a stream's state is a row of TRANSITIONS. And the
rows do not know which end of the connection we are: they speak of the *opener* (who sent the request, the client)
and the *answerer* (the server), so what we send and what we receive obey the same rules, and two peers that agree on
the frames they exchanged agree on the state.

    request, flags 0            -> UNARY        the answerer owes one response
    request, REMOTE_CLOSED      -> ANSWERING    the opener has sent all; data frames come back
    request, REMOTE_OPEN        -> OPEN         data frames go both ways

    OPEN      opener:   data -> OPEN          close -> ANSWERING
    OPEN      answerer: data -> OPEN          close -> FINISHED     response -> FINISHED
    ANSWERING opener:   nothing
    ANSWERING answerer: data -> ANSWERING     close -> FINISHED     response -> FINISHED
    UNARY     opener:   nothing
    UNARY     answerer:                                             response -> FINISHED

When the answerer closes, the stream is finished for both: ttrpc has no half-open stream in that direction. FINISHED
is never stored, a finished stream is forgotten; its id is not used again.

Source: containerd/ttrpc PROTOCOL.md, server.go, stream.go.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from shim.ttrpc.frames import REMOTE_CLOSED, REMOTE_OPEN

__all__ = ["FLAGS_OF_KIND", "OPENING", "TRANSITIONS", "Kind", "Message", "Party", "State", "kind_of_flags"]


class Kind(StrEnum):
    """What a request opens."""

    UNARY = "unary"
    SERVER_STREAM = "server stream"
    BIDI_STREAM = "stream"  # client streams too: the wire does not tell them apart


class State(StrEnum):
    """Who may still send what."""

    UNARY = "unary"
    OPEN = "open"
    ANSWERING = "answering"
    FINISHED = "finished"


class Party(StrEnum):
    """Who sends, seen from the stream."""

    OPENER = "opener"
    ANSWERER = "answerer"


class Message(StrEnum):
    """What is sent on an open stream. A data frame that closes is its data (if any) and then a close."""

    DATA = "data"
    CLOSE = "close"
    RESPONSE = "response"


OPENING: Final = {
    Kind.UNARY: State.UNARY,
    Kind.SERVER_STREAM: State.ANSWERING,
    Kind.BIDI_STREAM: State.OPEN,
}

FLAGS_OF_KIND: Final = {
    Kind.UNARY: 0,
    Kind.SERVER_STREAM: REMOTE_CLOSED,
    Kind.BIDI_STREAM: REMOTE_OPEN,
}

TRANSITIONS: Final[dict[tuple[State, Party, Message], State]] = {
    (State.OPEN, Party.OPENER, Message.DATA): State.OPEN,
    (State.OPEN, Party.OPENER, Message.CLOSE): State.ANSWERING,
    (State.OPEN, Party.ANSWERER, Message.DATA): State.OPEN,
    (State.OPEN, Party.ANSWERER, Message.CLOSE): State.FINISHED,
    (State.OPEN, Party.ANSWERER, Message.RESPONSE): State.FINISHED,
    (State.ANSWERING, Party.ANSWERER, Message.DATA): State.ANSWERING,
    (State.ANSWERING, Party.ANSWERER, Message.CLOSE): State.FINISHED,
    (State.ANSWERING, Party.ANSWERER, Message.RESPONSE): State.FINISHED,
    (State.UNARY, Party.ANSWERER, Message.RESPONSE): State.FINISHED,
}


def kind_of_flags(flags: int) -> Kind:
    """What a request with these flags opens; flags that nobody defined do not count."""
    if flags & REMOTE_OPEN:
        return Kind.BIDI_STREAM
    return Kind.SERVER_STREAM if flags & REMOTE_CLOSED else Kind.UNARY
