"""A tar that somebody else made, read once from its beginning to its end, in bounded memory.

``tarfile`` does the parsing. It takes what an archive says of itself at its word: it would read a header of any length into memory, and
it takes a damaged header for the end of the archive, where others read on or fail. So it reads through ``TarStream``, which counts
what it reads for one entry, hashes all that passes, and knows whether the archive ended as one does, in zeros.

Source: pax(1); tarfile's ``TarFile.next``; go archive/tar.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

    from shim.image.limits import Limits

__all__ = ["TarStream", "members"]

_CHUNK = 1 << 20
_MAGIC = b"\x1f\x8b"
# What tarfile makes of an archive that is none; it is not made for hostile ones, and lets through whatever int() or split() raise.
_BROKEN = (tarfile.TarError, ValueError, OverflowError, RecursionError, LookupError)


class TarStream:
    """A forward-only file for ``tarfile``, of the bytes of ``source`` (not owned), which are unpacked when they are gzip.

    What is read between two calls of ``begin_entry`` is limited to ``limits.header``; what is passed over is not.
    """

    def __init__(self, source: BufferedReader, limits: Limits, what: str) -> None:
        self.is_gzip = source.peek(2)[:2] == _MAGIC
        self._source: BufferedReader | gzip.GzipFile = (
            gzip.GzipFile(fileobj=source) if self.is_gzip else source
        )
        self._hash = hashlib.sha256()
        self._limits = limits
        self._what = what
        self._position = 0
        self._left = limits.header
        self._last = b""

    @property
    def digest(self) -> str:
        """Of all that has passed, as it is in the tar."""
        return f"sha256:{self._hash.hexdigest()}"

    @property
    def ends_well(self) -> bool:
        """Whether what was read last may be the end: zeros, or nothing at all."""
        return not any(self._last)

    def begin_entry(self) -> None:
        """What is read from here on belongs to the next entry."""
        self._left = self._limits.header

    def tell(self) -> int:
        """How much has passed."""
        return self._position

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end.

        Raises:
            InvalidArgument: that is more than an entry may say of itself.
        """
        if not 0 <= size <= self._left:
            raise InvalidArgument(
                f"{self._what}: the header of an entry is longer than {self._limits.header} bytes"
            )
        self._left -= size
        found = bytearray()
        while len(found) < size and (chunk := self._take(size - len(found))):
            found += chunk
        self._last = bytes(found)
        return self._last

    def seek(self, position: int) -> None:
        """Pass over what is before ``position``.

        Raises:
            InvalidArgument: that is behind us.
        """
        if position < self._position:
            raise InvalidArgument(f"{self._what}: an entry says that it has less than no bytes")
        for _ in self.pass_over(position - self._position):
            pass

    def pass_over(self, size: int) -> Iterator[bytes]:
        """The next ``size`` bytes, in pieces."""
        while size > 0 and (chunk := self._take(min(size, _CHUNK))):
            size -= len(chunk)
            yield chunk

    def finish(self) -> None:
        """All has passed.

        Raises:
            InvalidArgument: after the end of the archive there is something else than zeros.
        """
        well = self.ends_well
        while chunk := self._take(_CHUNK):
            well = well and not any(chunk)
        if not well:
            raise InvalidArgument(f"{self._what} is damaged: it goes on where it ends")

    def _take(self, size: int) -> bytes:
        try:
            chunk = self._source.read(min(size, _CHUNK))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidArgument(f"{self._what} is damaged: {error}") from None
        self._position += len(chunk)
        if self._position > self._limits.unpacked:
            raise ResourceExhausted(f"{self._what} holds more than {self._limits.unpacked} bytes")
        self._hash.update(chunk)
        return chunk


def members(stream: TarStream, what: str) -> Iterator[tarfile.TarInfo]:
    """The entries, in their order; the data of each can be had by ``stream.pass_over`` until the next is asked for.

    Raises:
        InvalidArgument: it is no tar, or a damaged one.
        ResourceExhausted: it is too large.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]  # all that it calls is there
            while True:
                stream.begin_entry()
                entry = tar.next()
                tar.members.clear()  # it would keep them all
                if set(tar.pax_headers) - {"comment"}:
                    raise InvalidArgument(
                        f"{what}: it has a header for all entries, which layers do not have"
                    )
                if entry is None:
                    break
                if entry.size < 0:
                    raise InvalidArgument(f"{what}: an entry says that it has less than no bytes")
                yield entry
    except _BROKEN as error:
        raise InvalidArgument(f"{what} is damaged, or no tar: {error}") from None
    stream.finish()
