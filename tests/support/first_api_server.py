"""The gRPC API in a process of its own: ``python first_api_server.py CONFIG SOCKET``. Says so when it is ready; ends on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from shim.config import load
from shim.grpc_api.server import ApiServer
from shim.linux.limits import raise_open_files


async def serve(config: str, path: str) -> None:
    server = ApiServer(load(config), raise_open_files())
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await server.start(path)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await end.wait()
    await server.stop(1.0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(serve(*sys.argv[1:3]), debug=False)
