"""gRPC as go-plugin uses it: how channels and servers are set up, the methods of its own services, and what errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from shim.errors import from_code
from shim.proto import plugin_broker_pb2, plugin_controller_pb2, plugin_stdio_pb2

if TYPE_CHECKING:
    from shim.errors import ShimError

__all__ = [
    "OPTIONS",
    "check",
    "error_of",
    "open_channel",
    "shutdown",
    "start_stream",
    "stream_stdio",
    "target",
]

# What go-plugin's health service calls itself.
HEALTH_SERVICE = "plugin"

# math.MaxInt32, as go-plugin has it: a plugin's messages are as large as they are.
_ANY_SIZE = 2**31 - 1
OPTIONS = [("grpc.max_receive_message_length", _ANY_SIZE), ("grpc.max_send_message_length", _ANY_SIZE)]

_CHANNEL_OPTIONS = [
    *OPTIONS,
    # Go's server looks at the authority, and refuses what gRPC makes of a path.
    ("grpc.default_authority", "localhost"),
    # http_proxy is for others.
    ("grpc.enable_http_proxy", 0),
    # No connection is shared with another channel: closed is closed.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
]


def target(network: str, address: str) -> str:
    """``address`` as gRPC names it; in a URI a path is quoted."""
    return f"unix:{quote(address)}" if network == "unix" else address


def open_channel(network: str, address: str) -> grpc.aio.Channel:
    """A channel to ``address``, without TLS; nothing has been connected yet."""
    return grpc.aio.insecure_channel(target(network, address), options=_CHANNEL_OPTIONS)


async def check(channel: grpc.aio.Channel, timeout_s: float) -> None:
    """The plugin answers, and serves.

    Raises:
        grpc.aio.AioRpcError: it does not.
    """
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    await call(health_pb2.HealthCheckRequest(service=HEALTH_SERVICE), timeout=timeout_s)


async def shutdown(channel: grpc.aio.Channel, timeout_s: float) -> None:
    """The plugin was told to end.

    Raises:
        grpc.aio.AioRpcError: it cannot be, or it ended before it answered.
    """
    call = channel.unary_unary(
        "/plugin.GRPCController/Shutdown",
        request_serializer=plugin_controller_pb2.Empty.SerializeToString,
        response_deserializer=plugin_controller_pb2.Empty.FromString,
    )
    await call(plugin_controller_pb2.Empty(), timeout=timeout_s)


def stream_stdio(channel: grpc.aio.Channel) -> grpc.aio.UnaryStreamCall[Any, plugin_stdio_pb2.StdioData]:
    """What the plugin writes to its standard output and error while it serves."""
    call = channel.unary_stream(
        "/plugin.GRPCStdio/StreamStdio",
        request_serializer=empty_pb2.Empty.SerializeToString,
        response_deserializer=plugin_stdio_pb2.StdioData.FromString,
    )
    return call(empty_pb2.Empty())


def start_stream(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[Any, Any]:
    """The stream on which both sides tell of further connections."""
    call = channel.stream_stream(
        "/plugin.GRPCBroker/StartStream",
        request_serializer=plugin_broker_pb2.ConnInfo.SerializeToString,
        response_deserializer=plugin_broker_pb2.ConnInfo.FromString,
    )
    return call()


def error_of(error: grpc.aio.AioRpcError, what: str) -> ShimError:
    """Our exception for a call that failed."""
    return from_code(error.code().value[0], f"{what}: {error.details()}")
