"""A client of the first API whose stubs are generated from containerd's own file; a program, since that declares the same
names as ours. Executed with the directory of the generated modules.

Reads lines of JSON and writes lines of JSON: ``{"id", "socket", "method", "request", "timeout"}`` is a call, ``{"cancel": id}``
ends one. An answer is ``{"id", "answer"}`` or ``{"id", "code", "details"}``.
"""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict

sys.path.insert(0, sys.argv[1])
import api_pb2
import api_pb2_grpc


class Client:
    def __init__(self) -> None:
        self.channels: dict[str, grpc.aio.Channel] = {}
        self.calls: dict[int, asyncio.Task[None]] = {}

    def stub(self, path: str) -> api_pb2_grpc.APIStub:
        if path not in self.channels:
            self.channels[path] = grpc.aio.insecure_channel(f"unix:{path}")
        return api_pb2_grpc.APIStub(self.channels[path])

    async def call(self, order: dict) -> None:
        method = api_pb2.DESCRIPTOR.services_by_name["API"].methods_by_name[order["method"]]
        request = ParseDict(order["request"], getattr(api_pb2, method.input_type.name)())
        call = getattr(self.stub(order["socket"]), order["method"])(
            request, timeout=order["timeout"], wait_for_ready=True
        )
        try:
            answer = MessageToDict(await call, preserving_proto_field_name=True)
            self.say({"id": order["id"], "answer": answer})
        except asyncio.CancelledError:
            call.cancel()
            self.say({"id": order["id"], "code": "CANCELLED", "details": ""})
        except grpc.aio.AioRpcError as error:
            self.say({"id": order["id"], "code": error.code().name, "details": error.details()})

    def say(self, what: dict) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 24)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = json.loads(line)
            if "cancel" in order:
                self.calls[order["cancel"]].cancel()
            elif "forget" in order:
                if channel := self.channels.pop(order["forget"], None):
                    await channel.close()
                self.say({"id": order["id"], "answer": {}})
            else:
                self.calls[order["id"]] = asyncio.create_task(self.call(order))


if __name__ == "__main__":
    asyncio.run(Client().run())
