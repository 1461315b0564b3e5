"""containerd's place in the benchmarks: takes the shims' events, in a process of its own.

    sink.py SOCKET

Those that tell of an exec that was added are counted. An empty line on stdin asks how many have come; a number, when
that many had, which is waited for. The answer is a line, a time being that of time.perf_counter.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time

from google.protobuf.empty_pb2 import Empty

from shim.proto.events_service_pb2 import ForwardRequest
from shim.transport.server import Method, Server

SERVICE = "containerd.services.events.ttrpc.v1.Events"
COUNTED = "/tasks/exec-added"


class Events:
    def __init__(self) -> None:
        self.times: list[float] = []
        self._wanted, self._come = 0, asyncio.Event()

    async def forward(self, request: ForwardRequest, _context: object) -> Empty:
        if request.envelope.topic == COUNTED:
            self.times.append(time.perf_counter())
        if len(self.times) >= self._wanted:
            self._come.set()
        return Empty()

    async def until(self, count: int) -> float:
        self._wanted = count
        self._come.clear()
        if len(self.times) < count:
            await self._come.wait()
        return self.times[count - 1]


async def main(path: str) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(4096)
    events = Events()
    await Server({SERVICE: {"Forward": Method(events.forward, ForwardRequest)}}).serve(listening)
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    print(path, flush=True)
    while line := await asked.readline():
        print(await events.until(int(line)) if line.strip() else len(events.times), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
