"""Lines out of bytes, none of them longer than a bound, so that no plugin fills our memory. Bytes in, lines out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LINE_LIMIT", "Line", "LineSplitter"]

# go-plugin's, for the log and for the handshake
LINE_LIMIT = 64 * 1024


class Line(NamedTuple):
    """A line without its end, or, not ``whole``, a piece of one that is too long."""

    data: bytes
    whole: bool


class LineSplitter:
    """Cuts what it is fed into lines."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = b""
        self._torn = False

    def feed(self, data: bytes) -> list[Line]:
        """The lines that end in ``data``, and the pieces of one that is too long already."""
        *lines, rest = (self._rest + data).split(b"\n")
        found = [piece for line in lines for piece in self._whole(line)]
        found += self._pieces(rest)
        return found

    def end(self) -> list[Line]:
        """What came after the last newline, if anything."""
        rest, self._rest = self._rest, b""
        return list(self._whole(rest)) if rest else []

    def _whole(self, line: bytes) -> Iterator[Line]:
        yield from self._pieces(line)
        yield Line(self._rest.removesuffix(b"\r"), not self._torn)
        self._rest, self._torn = b"", False

    def _pieces(self, line: bytes) -> Iterator[Line]:
        while len(line) > self._limit:
            yield Line(line[: self._limit], False)
            line, self._torn = line[self._limit :], True
        self._rest = line
