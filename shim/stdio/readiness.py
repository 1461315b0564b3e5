"""Waiting for one descriptor in the loop, for what has no transport of asyncio's: listening sockets, one byte of a pipe."""

from __future__ import annotations

import asyncio

__all__ = ["readable"]


async def readable(fd: int) -> None:
    """Return once ``fd`` can be read or accepted from, or has its end. It must stay open meanwhile; the caller reads."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
