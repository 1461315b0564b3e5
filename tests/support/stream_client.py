"""A client of the Streaming service that does what a test says, over a blocking socket."""

from __future__ import annotations

import socket
from typing import Any, Self

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from support.client_streams import DEADLINE_S

from shim.proto.streaming_pb2 import StreamInit
from shim.proto.transfer_pb2 import Data, WindowUpdate
from shim.proto.ttrpc_pb2 import Request, Response
from shim.ttrpc import Connection, DataReceived, Kind, ResponseReceived, Role, StreamClosed

SERVICE = "containerd.services.streaming.v1.Streaming"


def packed(message: Message) -> AnyMessage:
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


class StreamClient:
    """One connection with one stream. ``ended`` is the status once the server has ended it, None for a plain end."""

    def __init__(self, address: str, service: str = SERVICE, method: str = "Stream", **fields: Any) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(address.removeprefix("unix://"))
        self._machine = Connection(Role.CLIENT)
        self.messages: list[bytes] = []
        self.is_ended = False
        self.ended: Any = None
        request = Request(service=service, method=method, **fields)
        self.id, wire = self._machine.open_stream(request.SerializeToString(), Kind.BIDI_STREAM)
        self.sock.sendall(wire)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.sock.close()

    def send(self, message: Message) -> None:
        self.sock.sendall(self._machine.send_data(self.id, message.SerializeToString()))

    def close_sending(self) -> None:
        """The half close."""
        self.sock.sendall(self._machine.close_stream(self.id))

    def receive(self) -> bytes | None:
        """The next message, None at the end."""
        while not self.messages and not self.is_ended:
            data = self.sock.recv(65536)
            assert data, "the connection ended before the stream"
            for event in self._machine.receive_data(data):
                if isinstance(event, DataReceived):
                    self.messages.append(event.payload)
                elif isinstance(event, StreamClosed):
                    self.is_ended = True
                elif isinstance(event, ResponseReceived):
                    self.is_ended, self.ended = True, Response.FromString(event.payload).status
        return self.messages.pop(0) if self.messages else None


class StdStream(StreamClient):
    """One standard stream of a process: it is announced, and the shim has said that it knows."""

    def __init__(self, address: str, stream_id: str) -> None:
        super().__init__(address)
        self.send(packed(StreamInit(id=stream_id)))
        self.acknowledged = self.content()

    def content(self) -> AnyMessage | None:
        payload = self.receive()
        return None if payload is None else AnyMessage.FromString(payload)

    def widen(self, by: int) -> None:
        self.send(packed(WindowUpdate(update=by)))

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer at the end; the window is the test's."""
        data = b""
        while len(data) < size and (message := self.content()) is not None:
            assert message.type_url == Data.DESCRIPTOR.full_name
            data += Data.FromString(message.value).data
        return data

    def rest(self) -> bytes:
        """Everything up to the end."""
        data = b""
        self.widen(1 << 30)
        while chunk := self.read(1):
            data += chunk
        return data

    def window(self) -> int:
        """What the next WindowUpdate allows."""
        message = self.content()
        assert message is not None
        assert message.type_url == WindowUpdate.DESCRIPTOR.full_name
        return WindowUpdate.FromString(message.value).update

    def write(self, data: bytes) -> None:
        self.send(packed(Data(data=data)))
