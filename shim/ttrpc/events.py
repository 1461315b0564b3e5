"""What a connection reports: one frozen object per thing that happened.

Payloads stay bytes. What is inside of them (protobuf) is decided by who uses the connection, so that the machine
and its tests need no generated code.

The two errors of a protocol, kept apart everywhere there is a peer: LocalProtocolError is a bug of ours,
RemoteProtocolError is theirs. ``Connection.receive_data`` raises the second and nothing else; the sending methods
raise the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from shim.errors import Code
    from shim.ttrpc.states import Kind

__all__ = [
    "ConnectionClosed",
    "DataReceived",
    "Event",
    "LocalProtocolError",
    "ProtocolError",
    "RemoteProtocolError",
    "RequestReceived",
    "ResponseReceived",
    "StreamClosed",
    "StreamRejected",
]


class ProtocolError(Exception):
    """The rules of ttrpc were broken; by whom, says the subclass."""


class LocalProtocolError(ProtocolError):
    """We tried to send what must not be sent now. Nothing was sent, the connection is as it was."""


class RemoteProtocolError(ProtocolError):
    """The peer did what no later byte can repair. The connection is of no more use."""


class RequestReceived(NamedTuple):
    """A client has opened a stream. ``payload`` is a serialized ttrpc.Request.

    Every call makes one; a named tuple is made in half the time of a frozen dataclass.
    """

    stream_id: int
    payload: bytes
    kind: Kind


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """The server has answered, and the stream is finished. ``payload`` is a serialized ttrpc.Response."""

    stream_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class DataReceived:
    """One message of a stream, without an envelope; it may be empty."""

    stream_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The peer sends no more on this stream. When it is the server, the stream is finished."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamRejected:
    """A frame was refused; the connection goes on.

    A server answers with ``Connection.reject``, a client fails the call. ``finished`` says whether a living stream
    ended by this: its handler or caller has to be told. A request that reuses the id of a living stream does not
    end that stream.
    """

    stream_id: int
    code: Code
    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The peer sends nothing any more, after a whole frame. All streams are gone."""


Event: TypeAlias = (
    RequestReceived | ResponseReceived | DataReceived | StreamClosed | StreamRejected | ConnectionClosed
)
