"""What is in a layer, looked through from end to end before anything of it is written.

Source: image-spec layer.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument, ResourceExhausted
from shim.image.rules import refusal
from shim.image.tar_stream import TarStream, members

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

    from shim.image.limits import Limits

__all__ = ["Contents", "look_through"]

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Contents:
    """The digest of the tar, its bytes, and its entries; whether it is in gzip, whatever its type says."""

    digest: str
    size: int
    entries: int
    is_gzip: bool


def look_through(file: BufferedReader, what: str, limits: Limits, tell: Callable[[int], None]) -> Contents:
    """What ``file``, a tar or a tar in gzip, holds.

    ``what`` is what errors call it; ``tell`` is called with the bytes that have passed.

    Raises:
        InvalidArgument: it is damaged, or an entry is refused, which is named with the reason.
        ResourceExhausted: it exceeds ``limits``.
        OSError: it cannot be read.
    """
    stream = TarStream(file, limits, what)
    seen: set[str] = set()
    count = 0
    for entry in members(stream, what):
        count += 1
        tell(stream.tell())
        if count > limits.entries:
            raise ResourceExhausted(f"{what} has more than {limits.entries} entries")
        reason = refusal(entry)
        name = "/".join(part for part in entry.name.split("/") if part not in {"", "."})
        # Builders do repeat directories, and nothing is doubtful then.
        if not reason and name in seen and not entry.isdir():
            reason = "it comes twice"
        if reason:
            raise InvalidArgument(f"{what}, entry {_shown(entry.name)} is refused: {reason}")
        seen.add(name)
    return Contents(stream.digest, stream.tell(), count, stream.is_gzip)


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "...")
