"""A plugin for the tests as one written with a current go-plugin would be: what Debian's does not have yet.

It makes its sockets where PLUGIN_UNIX_SOCKET_DIR says and for PLUGIN_UNIX_SOCKET_GROUP, streams its standard output and
error over gRPC, calls its host back through TLS, and multiplexes the broker's connections. Its services are those of
``go_plugin``, as far as they are needed.

    python python_plugin.py     under a host, which gives it its environment
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf import empty_pb2, wrappers_pb2
from grpc_health.v1 import health_pb2
from support import go_plugin

from shim.plugin.protocol import mutual_tls
from shim.plugin.protocol.brokered_server import BrokeredServer
from shim.plugin.protocol.channel import PluginChannel
from shim.plugin.protocol.forwarder import Stream, dial
from shim.plugin.protocol.multiplexer import Multiplexer
from shim.plugin.protocol.socket_folder import SocketFolder
from shim.plugin.protocol.yamux import Session
from shim.proto.plugin_broker_pb2 import ConnInfo
from shim.proto.plugin_controller_pb2 import Empty
from shim.proto.plugin_stdio_pb2 import StdioData

Text = wrappers_pb2.StringValue
Number = wrappers_pb2.UInt32Value


def unary(call: Callable[[Any], Any], request: type, answer: type) -> grpc.RpcMethodHandler:
    async def handle(message: Any, _: grpc.aio.ServicerContext) -> Any:
        found = call(message)
        return await found if asyncio.iscoroutine(found) else found

    return grpc.unary_unary_rpc_method_handler(
        handle, request_deserializer=request.FromString, response_serializer=answer.SerializeToString
    )


class Server(Multiplexer):
    """The plugin's end of the one connection: a stream that nobody has announced is for the first server."""

    def __init__(self, connection: Stream, path: str) -> None:
        super().__init__(connection)
        self._session = Session(client=False)
        self.path = path

    def _answer(self, stream_id: int) -> None:
        if not self._expected:
            self.expect(self.path)
        super()._answer(stream_id)


class Folder(SocketFolder):
    """By name: gVisor of 2022 changes no file by its descriptor, and a plugin need not beware of its host."""

    def _share(self, path: str, mode: int, kind: int) -> None:  # noqa: ARG002 - as above it
        if self._gid is not None:
            os.chown(path, -1, self._gid)
            os.chmod(path, mode)


class Plugin:
    mux: Server | None = None

    def __init__(self) -> None:
        self.doors: dict[int, str] = {}
        self.ended = asyncio.Event()
        self.server: BrokeredServer | None = None
        self.output: asyncio.Queue[StdioData] = asyncio.Queue(maxsize=8)
        self.offers: dict[int, asyncio.Future[ConnInfo]] = {}
        self.to_host: asyncio.Queue[ConnInfo] = asyncio.Queue()
        self.shared = Folder(os.environ["PLUGIN_UNIX_SOCKET_DIR"])
        if group := os.environ.get("PLUGIN_UNIX_SOCKET_GROUP"):
            self.shared = Folder(self.shared.path, int(group))
        self.private = SocketFolder.make("test-plugin-", "/tmp")
        self.tls: mutual_tls.Contexts | None = None
        self.certificate = b""
        if host := os.environ.get("PLUGIN_CLIENT_CERT"):
            identity = mutual_tls.new_identity()
            self.certificate = ssl.PEM_cert_to_DER_cert(identity.certificate)
            self.tls = mutual_tls.contexts(
                identity, x509.load_pem_x509_certificate(host.encode()).public_bytes(Encoding.DER)
            )

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        services = {
            "grpc.health.v1.Health": {
                "Check": unary(
                    lambda _: serving, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
                )
            },
            "plugin.GRPCController": {"Shutdown": unary(self.shutdown, Empty, Empty)},
            "plugin.GRPCStdio": {
                "StreamStdio": grpc.unary_stream_rpc_method_handler(
                    self.stream_stdio,
                    request_deserializer=empty_pb2.Empty.FromString,
                    response_serializer=StdioData.SerializeToString,
                )
            },
            "plugin.GRPCBroker": {
                "StartStream": grpc.stream_stream_rpc_method_handler(
                    self.start_stream,
                    request_deserializer=ConnInfo.FromString,
                    response_serializer=ConnInfo.SerializeToString,
                )
            },
            go_plugin.SERVICE: {
                "Print": unary(self.print, StdioData, empty_pb2.Empty),
                "AskHost": unary(self.ask_host, Text, Text),
                "Offer": unary(self.offer, Text, Number),
                "Getenv": unary(lambda m: Text(value=os.environ.get(m.value, "")), Text, Text),
            },
        }
        return [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]

    def shutdown(self, _: Empty) -> Empty:
        self.ended.set()
        return Empty()

    async def print(self, data: StdioData) -> empty_pb2.Empty:
        await self.output.put(data)
        return empty_pb2.Empty()

    async def stream_stdio(
        self, _: empty_pb2.Empty, __: grpc.aio.ServicerContext
    ) -> AsyncIterator[StdioData]:
        while True:
            yield await self.output.get()

    async def start_stream(
        self, told: AsyncIterator[ConnInfo], _: grpc.aio.ServicerContext
    ) -> AsyncIterator[ConnInfo]:
        async def read() -> None:
            async for info in told:
                if info.knock.knock and not info.knock.ack:
                    await self.knocked(info.service_id)
                else:
                    self.offered(info.service_id).set_result(info)

        reading = asyncio.create_task(read())
        try:
            while True:
                yield await self.to_host.get()
        finally:
            reading.cancel()

    def offered(self, number: int) -> asyncio.Future[ConnInfo]:
        return self.offers.setdefault(number, asyncio.get_running_loop().create_future())

    async def ask_host(self, message: Text) -> Text:
        number, question = message.value.split(maxsplit=1)
        if self.mux is not None:
            channel = await PluginChannel.through(lambda: self.enter(int(number)), self.private)
        elif (info := await self.offered(int(number))) and self.tls is None:
            channel = PluginChannel.straight(info.network, info.address)
        else:
            tls = self.tls.client
            channel = await PluginChannel.through(
                lambda: dial(info.network, info.address, tls, mutual_tls.SERVER_NAME), self.private
            )
        async with channel:
            call = channel.grpc.unary_unary(
                "/ocishim.test.Host/Answer",
                request_serializer=Text.SerializeToString,
                response_deserializer=Text.FromString,
            )
            return await call(Text(value=question))

    async def enter(self, number: int) -> Stream:
        async def knock() -> None:
            await self.to_host.put(ConnInfo(service_id=number, knock=ConnInfo.Knock(knock=True)))
            assert (await self.offered(number)).knock.ack
            del self.offers[number]

        tls = None if self.tls is None else self.tls.client
        return await self.mux.open(tls, mutual_tls.SERVER_NAME, knock)

    async def knocked(self, number: int) -> None:
        error = "" if number in self.doors else f"no listener for id {number}"
        if not error:
            self.mux.expect(self.doors[number])
        await self.to_host.put(
            ConnInfo(service_id=number, knock=ConnInfo.Knock(knock=True, ack=True, error=error))
        )

    async def offer(self, _: Text) -> Number:
        echo = {"Echo": unary(lambda message: message, Text, Text)}
        self.server, path = await self.serve(
            [grpc.method_handlers_generic_handler("ocishim.test.Echo", echo)]
        )
        self.doors[99] = path
        if self.mux is None:
            await self.to_host.put(ConnInfo(service_id=99, network="unix", address=path))
        return Number(value=99)

    async def serve(self, handlers: list[grpc.GenericRpcHandler]) -> tuple[BrokeredServer, str]:
        server = BrokeredServer(handlers)
        if self.tls is None:
            return server, await server.start(self.shared)
        return server, await server.start_with_tls(self.shared, self.private, self.tls.server)


async def main() -> None:
    key, value = go_plugin.COOKIE
    if os.environ.get(key) != value:
        sys.exit("This is a plugin.")
    plugin = Plugin()
    server, path = await plugin.serve(plugin.handlers())
    certificate = base64.b64encode(plugin.certificate).decode().rstrip("=")
    end = ""
    if os.environ.get("PLUGIN_MULTIPLEX_GRPC"):
        behind, path = path, plugin.shared.new_path()
        end = "|true"

        def connected(*stream: Any) -> None:
            plugin.mux = Server(stream, behind)

        await asyncio.start_unix_server(connected, sock=plugin.shared.listen(path))
    print(f"1|2|unix|{path}|grpc|{certificate}{end}", flush=True)  # noqa: T201 - the handshake
    await plugin.ended.wait()
    await server.close()
    plugin.private.remove()


if __name__ == "__main__":
    asyncio.run(main())
