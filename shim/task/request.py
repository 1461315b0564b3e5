"""What a client wants a container to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.config import Config
    from shim.linux.mounts import Mount
    from shim.runtime import CheckpointOptions
    from shim.stdio import Streams

__all__ = ["CreateRequest"]


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What Create asks for, without the wire's types."""

    id: str
    bundle: str
    streams: Streams
    config: Config
    rootfs: Sequence[Mount] = ()
    restore_from: CheckpointOptions | None = None
