"""A server in an event loop of its own, in a thread, for tests that call it with blocking sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from shim.proto.ttrpc_pb2 import Request, Response
from shim.transport.client import Client
from shim.transport.server import Method, Server
from shim.ttrpc import Connection, ResponseReceived, Role

SERVICE = "test.Service"
DEADLINE_S = 30


class Running:
    """A server that runs, and doors into its loop."""

    def __init__(
        self,
        path: Path,
        methods: dict[str, Method],
        on_idle: Callable[[], None] | None = None,
        service: str = SERVICE,
    ) -> None:
        self.path = path
        self.address = f"unix://{path}"
        self._services = {service: methods}
        self._on_idle = on_idle
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self.loop: asyncio.AbstractEventLoop
        self.server: Server
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)

    async def _main(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.server = Server(self._services, self._on_idle)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        listening.listen(128)
        await self.server.serve(listening)
        self._ready.set()
        await self._stop.wait()
        await self.server.close(grace_s=0.2)
        self.path.unlink()

    def run(self, coroutine: Awaitable[Any]) -> Any:
        """The result of a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    def ask(self, question: Callable[[], Any]) -> Any:
        """The result of a function in the server's loop."""

        async def answer() -> Any:
            return question()

        return self.run(answer())

    def until(self, condition: Callable[[], bool]) -> None:
        """The condition, looked at in the server's loop, holds."""

        async def wait() -> None:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                    await asyncio.sleep(0.001)

        self.run(wait())

    def client(self, **options: Any) -> Client:
        return Client.connect(self.address, **options)

    def raw(self) -> Raw:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.path))
        sock.settimeout(DEADLINE_S)
        return Raw(sock)

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


class Raw:
    """A client that does what it is told, right or wrong."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.machine = Connection(Role.CLIENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.sock.close()

    def request(self, method: str, payload: bytes = b"", **fields: Any) -> int:
        """A request is sent; its stream id."""
        request = Request(service=SERVICE, method=method, payload=payload, **fields)
        stream_id, wire = self.machine.open_stream(request.SerializeToString())
        self.sock.sendall(wire)
        return stream_id

    def responses(self, count: int) -> dict[int, Response]:
        """The next ``count`` responses, by stream id."""
        found: dict[int, Response] = {}
        while len(found) < count:
            data = self.sock.recv(65536)
            assert data, "the server closed the connection"
            for event in self.machine.receive_data(data):
                assert isinstance(event, ResponseReceived)
                found[event.stream_id] = Response.FromString(event.payload)
        return found

    def response(self) -> Response:
        """The next response."""
        (response,) = self.responses(1).values()
        return response

    def answer_to(self, wire: bytes, stream_id: int) -> Response:
        """What comes back on ``stream_id`` for ``wire``, whatever the ids say."""
        self.sock.sendall(wire)
        self.machine._streams[stream_id] = "unary"
        return self.responses(1)[stream_id]
