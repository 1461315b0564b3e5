"""A client of the daemon's gRPC API, containerd's first one: ``Client`` for an event loop, ``BlockingClient`` for scripts.

    async with Client("unix:///run/ocishim/grpc.sock") as client:
        pid = await client.create_container("c1", "/bundles/counter")
        async for numbered in client.events():
            print(numbered.number, numbered.event.type, numbered.event.id)

Answers are the API's own messages, which are re-exported here: they have every field that there is, by its name on the wire.
What fails is one of ``shim.errors``.
"""

from shim.client.blocking import BlockingClient
from shim.client.client import Client, NumberedEvent
from shim.client.ends import End
from shim.client.target import Target, TlsFiles
from shim.proto.first_api_pb2 import (
    Checkpoint,
    Container,
    Event,
    Machine,
    Process,
    StateResponse,
    Stats,
    User,
)

__all__ = [
    "BlockingClient",
    "Checkpoint",
    "Client",
    "Container",
    "End",
    "Event",
    "Machine",
    "NumberedEvent",
    "Process",
    "StateResponse",
    "Stats",
    "Target",
    "TlsFiles",
    "User",
]
