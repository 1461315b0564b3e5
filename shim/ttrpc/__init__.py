"""ttrpc without I/O: frames, the life of streams, and one end of a connection as a pure machine.

``transport/`` puts it on sockets. Source: containerd/ttrpc PROTOCOL.md.
"""

from shim.ttrpc.connection import Connection, Role
from shim.ttrpc.events import (
    ConnectionClosed,
    DataReceived,
    Event,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
    StreamClosed,
    StreamRejected,
)
from shim.ttrpc.frames import MAX_DATA
from shim.ttrpc.states import Kind

__all__ = [
    "MAX_DATA",
    "Connection",
    "ConnectionClosed",
    "DataReceived",
    "Event",
    "Kind",
    "LocalProtocolError",
    "ProtocolError",
    "RemoteProtocolError",
    "RequestReceived",
    "ResponseReceived",
    "Role",
    "StreamClosed",
    "StreamRejected",
]
