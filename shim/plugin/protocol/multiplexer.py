"""All connections with a plugin as streams of one: what go-plugin calls the multiplexed broker.

gRPC makes its connections itself and cannot be given a stream. Each stream is therefore carried to a socket: to one end of
a pair when we opened it, whose other end whoever asked for it has; and to the socket of a server of ours when the plugin
did. Which server that is the plugin says beforehand, with a knock (see ``broker``).

Source: hashicorp/go-plugin, internal/grpcmux.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING

from shim.errors import Unavailable
from shim.plugin.protocol.forwarder import dial
from shim.plugin.protocol.yamux import Data, GoneAway, Opened, Session, Window, YamuxError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from shim.plugin.protocol.forwarder import Dial, Stream
    from shim.plugin.protocol.yamux import Event

__all__ = ["Multiplexer"]

_log = logging.getLogger(__name__)

_CHUNK = 64 * 1024


class Multiplexer:
    """One connection, of which we are the client; ``close`` ends it and all its streams."""

    def __init__(self, connection: Stream) -> None:
        self._reader, self._writer = connection
        self._session = Session(client=True)
        self._carriers: dict[int, _Carrier] = {}
        self._expected: deque[str] = deque()
        self._opening = asyncio.Lock()
        self._error: YamuxError | None = None
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def connect(cls, network: str, address: str) -> Multiplexer:
        """Connected to a plugin.

        Raises:
            Unavailable: it does not listen there.
        """
        try:
            return cls(await dial(network, address))
        except OSError as error:
            raise Unavailable(f"no answer from the plugin ({error})") from error

    async def open(
        self,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        knock: Callable[[], Awaitable[None]] | None = None,
    ) -> Stream:
        """A new stream, through TLS if there is a context. ``knock`` is called before, and nothing is opened meanwhile.

        Raises:
            ShimError: the connection has ended, or the knock was not answered.
            OSError: TLS failed.
        """
        async with self._opening:
            if knock is not None:
                await knock()
            if self._error is not None:
                raise self._error
            stream_id = self._session.open()
        ours, theirs = socket.socketpair()
        self._carry(stream_id, lambda: asyncio.open_unix_connection(sock=theirs))
        self._flush()
        name = server_name if tls is not None else None
        return await asyncio.open_unix_connection(sock=ours, ssl=tls, server_hostname=name)

    def expect(self, path: str) -> None:
        """The next stream that the plugin opens is for the server at ``path``."""
        self._expected.append(path)

    async def close(self) -> None:
        """Nothing is left of the connection."""
        if self._error is None:
            self._session.go_away()
            self._flush()
        self._fail(YamuxError("the connection to the plugin is closed"))
        self._reading.cancel()
        tasks = [self._reading, *(carrier.task for carrier in self._carriers.values())]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._writer.close()

    async def _read(self) -> None:
        why = YamuxError("the plugin ended the connection")
        try:
            while data := await self._reader.read(_CHUNK):
                for event in self._session.receive(data):
                    self._take(event)
                self._flush()
                # Whoever does not read what we answer is not read from, either.
                await self._writer.drain()
        except YamuxError as error:
            _log.warning("connection to the plugin: %s", error)
            why = error
        except ConnectionError as error:
            why = YamuxError(f"the plugin ended the connection ({error})")
        self._fail(why)

    def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            self._answer(event.id)
        elif not isinstance(event, GoneAway) and (carrier := self._carriers.get(event.id)) is not None:
            if isinstance(event, Data):
                carrier.received.put_nowait(event.data)
            elif isinstance(event, Window):
                carrier.room.set()
            else:
                carrier.task.cancel()

    def _answer(self, stream_id: int) -> None:
        if not self._expected:
            _log.warning("the plugin opened a connection that it had not announced")
            self._session.reset(stream_id)
            return
        self._session.accept(stream_id)
        path = self._expected.popleft()
        self._carry(stream_id, lambda: dial("unix", path))

    def _carry(self, stream_id: int, connect: Dial) -> None:
        """What comes and goes on the stream goes to and comes from a socket, until both ends are closed."""
        carrier = self._carriers[stream_id] = _Carrier(stream_id)
        carrier.task = asyncio.get_running_loop().create_task(self._run(carrier, connect))
        carrier.task.add_done_callback(lambda _: self._carriers.pop(stream_id, None))

    async def _run(self, carrier: _Carrier, connect: Dial) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await connect()
            async with asyncio.TaskGroup() as copies:
                copies.create_task(self._send(carrier, reader))
                copies.create_task(self._receive(carrier, writer))
        except* (OSError, YamuxError) as errors:
            _log.debug("a connection of the plugin's ends: %s", errors.exceptions[0])
        finally:
            # Nothing happens to one that has ended as it should.
            self._session.reset(carrier.id)
            self._flush()
            if writer is not None:
                writer.close()

    async def _send(self, carrier: _Carrier, reader: asyncio.StreamReader) -> None:
        while data := memoryview(await reader.read(_CHUNK)):
            while data:
                carrier.room.clear()
                data = data[self._session.send(carrier.id, data) :]
                self._flush()
                await self._writer.drain()
                if data:
                    await carrier.room.wait()
        self._session.finish(carrier.id)
        self._flush()

    async def _receive(self, carrier: _Carrier, writer: asyncio.StreamWriter) -> None:
        while data := await carrier.received.get():
            writer.write(data)
            await writer.drain()
            self._session.consumed(carrier.id, len(data))
            self._flush()
        writer.write_eof()

    def _flush(self) -> None:
        if (data := self._session.outgoing()) and not self._writer.is_closing():
            self._writer.write(data)

    def _fail(self, error: YamuxError) -> None:
        self._error = self._error or error
        for carrier in self._carriers.values():
            carrier.task.cancel()


class _Carrier:
    """One stream on its way between the connection and a socket."""

    task: asyncio.Task[None]

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self.received: asyncio.Queue[bytes] = asyncio.Queue()  # the window bounds it
        self.room = asyncio.Event()
