"""Streams that end at an unlucky moment: whatever is being sent, the client is told why."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from shim.grpc_api.calls import Streams, send_metadata
from shim.proto import first_api_pb2 as wire


async def before_anything(_, __):
    await asyncio.sleep(1000)


async def while_metadata_are_sent(_, context):
    asyncio.get_running_loop().call_soon(context.end)
    await send_metadata(context.real)
    await asyncio.sleep(1000)


async def between_messages(_, context):
    await send_metadata(context.real)
    await context.real.write(b"")
    context.end()
    await asyncio.sleep(1000)


async def while_nothing_is_read(_, context):
    await send_metadata(context.real)
    asyncio.get_running_loop().call_later(0.05, context.end)
    while True:
        await context.real.write(bytes(1 << 20))


async def to_the_end(call):
    while await call.read() is not grpc.aio.EOF:
        pass


class Ending:
    """A context, and what ends its stream."""

    def __init__(self, real, end):
        self.real = real
        self.end = end


@pytest.mark.parametrize(
    "moment", [before_anything, while_metadata_are_sent, between_messages, while_nothing_is_read]
)
async def test_the_status_arrives_before_the_connection_ends(tmp_path, moment):
    streams, ended = Streams(), asyncio.Event()
    begun = asyncio.Event()

    async def handler(request, context):
        begun.set()
        await moment(request, Ending(context, ended.set))

    async def stop():
        await (begun if moment is before_anything else ended).wait()
        await streams.end(5)
        await server.stop(5)

    server = grpc.aio.server()
    methods = {"Events": streams.method(handler, wire.EventsRequest)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("types.API", methods),))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        stopping = asyncio.create_task(stop())
        call = channel.unary_stream("/types.API/Events")(b"")
        if moment is while_nothing_is_read:
            await ended.wait()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await to_the_end(call)
        assert (error.value.code(), error.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the daemon ends")
        await stopping
