"""Hosts and plugins of the tests: what both agree on, and calls to the services of the plugin in ``go_plugin``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2, wrappers_pb2
from google.protobuf.message import Message
from support import bed, go_plugin

from shim.plugin.client import ClientConfig, PluginClient
from shim.plugin.local_runner import LocalRunner
from shim.plugin.protocol.handshake import HandshakeConfig

Text = wrappers_pb2.StringValue
Number = wrappers_pb2.UInt32Value
Empty = empty_pb2.Empty

# gRPC opens descriptors with its first channel and closes them some seconds after the last: they are no test's.
grpc.aio.init_grpc_aio()
_KEEPER = grpc.insecure_channel("unix:/nowhere")

HANDSHAKE = HandshakeConfig(*go_plugin.COOKIE, go_plugin.VERSIONS)


def config(**changes: Any) -> ClientConfig:
    return ClientConfig(**{"handshake": HANDSHAKE, "start_timeout_s": 20.0, **changes})


def go_client(**changes: Any) -> PluginClient:
    """The plugin that was built with Go; it has not been started."""
    bed.need(go_plugin.is_there(), "Go is not installed: apt-get install golang-go")
    return client([str(go_plugin.built())], **changes)


def client(argv: list[str], **changes: Any) -> PluginClient:
    return PluginClient(config(**changes), lambda env, _: LocalRunner(argv, env))


def shell(script: str, **changes: Any) -> PluginClient:
    """A plugin that is a script; what it finds in its environment is real."""
    return client(["/bin/sh", "-c", script], **changes)


async def call(
    channel: grpc.aio.Channel,
    method: str,
    value: str | int = "",
    answer: type[Message] = Empty,
    service: str = go_plugin.SERVICE,
) -> Any:
    """What the plugin answers, as the value of its message."""
    request = Number(value=value) if isinstance(value, int) else Text(value=value)
    stub = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return getattr(await stub(request, timeout=15), "value", None)


def serving(service: str, methods: Mapping[str, Callable[[str], str]]) -> grpc.GenericRpcHandler:
    """A service whose methods take a text and return one."""

    def handler(method: Callable[[str], str]) -> grpc.RpcMethodHandler:
        async def answer(request: Text, _: grpc.aio.ServicerContext) -> Text:
            return Text(value=method(request.value))

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=Text.FromString, response_serializer=Text.SerializeToString
        )

    return grpc.method_handlers_generic_handler(
        service, {name: handler(method) for name, method in methods.items()}
    )
