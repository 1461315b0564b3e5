"""Events that a shim could not tell before its end, left on disk for the daemon.

    <socket of the daemon>.unsent/<time>-<pid>.json     those of one shim, in order

The daemon makes the directory, which stays: it says that there is somebody to tell, if not now.

Source: containerd api/services/ttrpc/events/v1, whose envelopes they are.
"""

from __future__ import annotations

import os
import time
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from shim.errors import DataLoss, from_os_error
from shim.proto.types_pb2 import Envelope
from shim.store import records

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KEPT", "KEPT_BYTES", "directory_of", "found", "leave", "prepare", "read"]


KEPT = 1000
"""Of so many shims it is kept what they could not tell: there may be no daemon any more."""
KEPT_BYTES = 16 << 20
"""And no more than that."""


def directory_of(socket_path: str) -> str:
    """Where is left what was not taken at ``socket_path``."""
    return f"{socket_path}.unsent"


def prepare(directory: str) -> None:
    """``directory`` is there.

    Raises:
        ShimError: it cannot be made.
    """
    try:
        Path(directory).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, "events cannot be left") from error


def leave(directory: str, envelopes: Sequence[Envelope]) -> None:
    """``found`` finds them from now on; the oldest are forgotten where there are too many or too much.

    Raises:
        ShimError: they cannot be written.
    """
    prepare(directory)
    # What a reboot makes void: the containers are gone then.
    bodies = [b64encode(envelope.SerializeToString()).decode() for envelope in envelopes]
    records.save(Path(directory, f"{time.time_ns()}-{os.getpid()}.json"), {"envelopes": bodies}, synced=False)
    size = 0
    for number, path in enumerate(reversed(found(directory))):
        with suppress(FileNotFoundError):  # a daemon takes them
            size += path.stat().st_size
        if number >= KEPT or (number and size > KEPT_BYTES):
            records.delete(path, synced=False)


def found(directory: str) -> list[Path]:
    """What shims have left, oldest first. Who has read one deletes it, with ``records.delete``.

    Raises:
        ShimError: it cannot be looked for.
    """
    try:
        return sorted(path for path in Path(directory).iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, "events that were left cannot be found") from error


def read(path: Path) -> list[Envelope]:
    """What one shim has left, in order.

    Raises:
        DataLoss: it is broken.
        ShimError: it cannot be read.
    """
    try:
        return [
            Envelope.FromString(b64decode(body, validate=True)) for body in records.load(path)["envelopes"]
        ]
    except (KeyError, TypeError, ValueError, DecodeError) as error:
        raise DataLoss(f"{path} is broken, it has no events") from error
