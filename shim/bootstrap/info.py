"""The answer to ``-info``: who we are, and what the runtime below us can do.

Source: containerd api/types/introspection.proto; runtime-spec features.md.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from shim import __version__, config
from shim.errors import InvalidArgument, ShimError
from shim.process import Reaper
from shim.proto.runtime_info_pb2 import RuntimeInfo, RuntimeVersion
from shim.runtime import driver_for
from shim.service.options import with_options

__all__ = ["runtime_info"]

_FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


def runtime_info(stdin: bytes) -> bytes:
    """A serialized RuntimeInfo; ``stdin`` is an Any with the runtime's options, or empty.

    A runtime that cannot tell its features (runsc, older ones) leaves them out.

    Raises:
        InvalidArgument: ``stdin`` is no Any.
    """
    try:
        options = AnyMessage.FromString(stdin)
    except DecodeError as error:
        raise InvalidArgument(f"the options on stdin cannot be decoded: {error}") from error
    info = RuntimeInfo(name="io.containerd.ocishim.v2", version=RuntimeVersion(version=__version__))
    if stdin:
        info.options.CopyFrom(options)
    features = asyncio.run(_features(with_options(config.load(), options)))
    if features is not None:
        info.features.CopyFrom(AnyMessage(type_url=_FEATURES, value=json.dumps(features).encode()))
    return info.SerializeToString()


async def _features(settings: config.Config) -> dict[str, Any] | None:
    reaper = Reaper()
    reaper.start()
    try:
        return await (await driver_for(settings, "info", reaper)).features()
    except ShimError:
        return None
    finally:
        reaper.stop()
