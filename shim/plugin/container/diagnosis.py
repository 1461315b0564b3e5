"""Why a plugin does not work: how it was started, how it ended and, for who debugs it, what it said.

Source: plugincontainer, Diagnose.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shim.config import Config as Settings
    from shim.plugin.container.config import Config

__all__ = ["Tail", "diagnosis"]

_TAIL = 16384
_CHUNK = 65536

_HINTS = {
    1: "the plugin itself found something wrong: see its log",
    2: "the command is wrong, or the program needs a C library that the image lacks (build it with CGO_ENABLED=0)",
    126: "the command cannot be executed",
    127: "the command, or what its first line names, is not in the image",
    137: "it was killed; perhaps for want of memory",
}


class Tail:
    """A stream that is passed on, and whose last part is kept. ``close`` ends it."""

    def __init__(
        self,
        name: str,
        reader: asyncio.StreamReader,
        reading: asyncio.StreamWriter,
        pumping: asyncio.Task[None],
        kept: bytearray,
    ) -> None:
        self.name = name
        self.reader = reader
        self._reading = reading
        self._pumping = pumping
        self._kept = kept

    @classmethod
    async def of(cls, name: str, source: asyncio.StreamReader) -> Tail:
        """``source``'s bytes come out of ``reader``; nobody else reads ``source``."""
        # A pair of sockets, because a reader that is fed by hand has no limit.
        ours, theirs = socket.socketpair()
        reader, reading = await asyncio.open_connection(sock=theirs)
        _, writer = await asyncio.open_connection(sock=ours)
        kept = bytearray()
        pumping = asyncio.create_task(_pump(source, writer, kept), name=f"{name} of a plugin")
        return cls(name, reader, reading, pumping, kept)

    def close(self) -> None:
        """``reader`` ends."""
        self._pumping.cancel()
        self._reading.close()

    def text(self) -> str:
        """What is kept."""
        return self._kept.decode(errors="replace")


async def _pump(source: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    try:
        while data := await source.read(_CHUNK):
            kept += data
            del kept[:-_TAIL]
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def diagnosis(
    config: Config,
    settings: Settings,
    env: Mapping[str, str],
    ending: asyncio.Task[int] | None,
    tails: Sequence[Tail],
) -> str:
    """What there is to say, in several lines."""
    lines = [
        "Config:",
        f"Image ref: {config.reference}{f'@{config.digest}' if config.digest else ''}",
        *([f"Entrypoint: {shlex.join(config.entrypoint)}"] if config.entrypoint is not None else []),
        *([f"Cmd: {shlex.join(config.args)}"] if config.args is not None else []),
        f"Runtime: {config.runtime or settings.runtime}",
        f"GroupAdd: {config.group_add}",
    ]
    if config.debug:
        lines += ["Env:", *(f"  {name}={value}" for name, value in env.items())]
        lines += [f"  {variable}" for variable in config.env]
    lines.append(f"Container: {_state(ending)}")
    for tail in tails:
        lines += [f"{tail.name}:", *(f"  {line}" for line in tail.text().splitlines())]
    return "\n".join(lines)


def _state(ending: asyncio.Task[int] | None) -> str:
    if ending is None:
        return "not started"
    if not ending.done():
        return "running; a handshake on its stdout would have been its first line"
    if ending.cancelled():
        return "released"
    if (error := ending.exception()) is not None:
        return str(error)
    hint = _HINTS.get(ending.result())
    return f"exited {ending.result()}" + (f" ({hint})" if hint else "")
