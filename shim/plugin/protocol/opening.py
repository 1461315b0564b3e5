"""From a plugin that was just started to the address at which it serves: its first line, or why there is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, Unavailable, from_os_error
from shim.plugin.protocol.handshake import parse_line
from shim.plugin.protocol.lines import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Collection

    from shim.plugin.protocol.handshake import PluginAddress
    from shim.plugin.protocol.lines import Line
    from shim.plugin.runner import Runner

__all__ = ["CHUNK", "read_handshake"]

CHUNK = 64 * 1024

# What the end of a process and the end of its output may come apart.
_APART_S = 1.0


async def read_handshake(runner: Runner, versions: Collection[int]) -> PluginAddress:
    """Where the plugin serves, as the host reaches it; waits for as long as the plugin says nothing.

    Raises:
        Unavailable: it ended, or closed its output, before it said so.
        FailedPrecondition: it said something else, or is of another version.
        Unimplemented: it speaks net/rpc.
    """
    reading = asyncio.ensure_future(_first_line(runner.stdout))
    ending = asyncio.ensure_future(runner.wait())
    try:
        await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
        if not (reading.done() and ending.done()):
            # It may have ended with its line still in the pipe; or its output did, and it is about to end.
            late = [task for task in (reading, ending) if not task.done()]
            if late == [reading] or reading.result() is None:
                await asyncio.wait(late, timeout=_APART_S)
        line = reading.result() if reading.done() else None
    finally:
        await _ended(reading, ending)
    if line is None:
        raise Unavailable("it exited before it could be connected to")
    if not line.whole:
        raise FailedPrecondition(
            f"unrecognized remote plugin message: a line of {len(line.data)} bytes and more"
        )
    answer = parse_line(line.data.decode(errors="replace"), versions)
    network, address = runner.plugin_to_host(answer.network, answer.address)
    return answer.at(network, address)


async def _first_line(stdout: asyncio.StreamReader) -> Line | None:
    lines = LineSplitter()
    found: list[Line] = []
    try:
        while not found and (data := await stdout.read(CHUNK)):
            found = lines.feed(data)
    except OSError as error:
        raise from_os_error(error, "its output") from error
    return next(iter(found or lines.end()), None)


async def _ended(*tasks: asyncio.Future[Line | None] | asyncio.Future[int]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
