"""What a plugin writes to its standard output and error while it serves.

Once it serves, a plugin's own output goes to a pipe whose other end go-plugin has; since 1.3 the host can ask for it. It
has to, because a plugin that nobody reads from stops at a full pipe.

Source: hashicorp/go-plugin, grpc_stdio.go.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import grpc
import grpc.aio

from shim.plugin.protocol.calls import stream_stdio
from shim.proto.plugin_stdio_pb2 import StdioData

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Sink", "mirror"]

_log = logging.getLogger(__name__)

# Takes what comes; the plugin waits while it does not return.
Sink: TypeAlias = Callable[[bytes], Awaitable[None]]

# A plugin that ends, a host that does, and a plugin of old.
_ENDS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNIMPLEMENTED}


async def mirror(channel: grpc.aio.Channel, stdout: Sink | None, stderr: Sink | None) -> None:
    """Gives the plugin's output to ``stdout`` and ``stderr`` until it ends; without one it is thrown away."""
    sinks = {StdioData.STDOUT: stdout, StdioData.STDERR: stderr}
    call = stream_stdio(channel)
    try:
        async for data in call:
            await _give(sinks, data)
    except grpc.aio.AioRpcError as error:
        level = logging.DEBUG if error.code() in _ENDS else logging.ERROR
        _log.log(level, "the plugin's output ends: %s", error.details())
    finally:
        call.cancel()


async def _give(sinks: Mapping[StdioData.Channel, Sink | None], data: StdioData) -> None:
    sink = sinks.get(data.channel)
    if sink is None:
        return
    try:
        await sink(data.data)
    except Exception:  # noqa: BLE001 - it is the caller's; the plugin must not stop for it
        _log.exception("%d bytes of the plugin's output are lost", len(data.data))
