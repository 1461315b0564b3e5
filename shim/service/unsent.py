"""Events that a shim could not tell before its end, left on disk for the daemon.

    <socket of the daemon>.unsent/<time>-<pid>.json     those of one shim, in order

Source: containerd api/services/ttrpc/events/v1, whose envelopes they are.
"""

from __future__ import annotations

import os
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from shim.errors import DataLoss, from_os_error
from shim.proto.types_pb2 import Envelope
from shim.store import records

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KEPT", "directory_of", "found", "leave", "read"]


KEPT = 1000
"""Of so many shims it is kept what they could not tell: there may be no daemon any more."""


def directory_of(socket_path: str) -> str:
    """Where is left what was not taken at ``socket_path``."""
    return f"{socket_path}.unsent"


def leave(directory: str, envelopes: Sequence[Envelope]) -> None:
    """``found`` finds them from now on; of more than ``KEPT`` shims the oldest are forgotten.

    Raises:
        ShimError: they cannot be written.
    """
    try:
        Path(directory).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, "events cannot be left") from error
    for oldest in found(directory)[: -KEPT + 1]:
        records.delete(oldest, synced=False)
    bodies = [b64encode(envelope.SerializeToString()).decode() for envelope in envelopes]
    # What a reboot makes void: the containers are gone then.
    records.save(Path(directory, f"{time.time_ns()}-{os.getpid()}.json"), {"envelopes": bodies}, synced=False)


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
