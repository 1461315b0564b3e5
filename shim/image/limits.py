"""How much of an image is taken, and who is told how far it is.

An image is refused where it exceeds these, before it can fill a disk or the memory: a gzip of a few megabytes can hold terabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Limits", "Progress", "silent"]

Progress = Callable[[str, int, int], None]
"""Is called again and again with what is being done, how much of it is done, and how much there is (0: not known).

What it raises ends the work, which leaves nothing behind."""


def silent(what: str, done: int, total: int) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, and entries of all layers together."""

    document: int = 4 << 20
    """A manifest, an index or a configuration; containerd's is the same."""
    blob: int = 16 << 30
    unpacked: int = 32 << 30
    entries: int = 1_000_000
    header: int = 1 << 20
    """All that a tar says of one entry: its name, links, attributes."""
