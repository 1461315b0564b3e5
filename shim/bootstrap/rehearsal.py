"""A launcher that asks for a start: of a container that is none, in a directory of its own, of which nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage

from shim.bootstrap.request import send
from shim.proto.runc_options_pb2 import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rehearsal"]

_WORDS = "launcher -namespace rehearsal -address / -publish-binary / -id rehearsal start"


def _environment() -> list[bytes]:
    return [name + b"=" + value for name, value in os.environb.items()]


@contextmanager
def rehearsal(scratch: str) -> Iterator[socket.socket]:
    """A connection from a launcher that has sent its request, working directory ``scratch``; afterwards that is gone.

    Raises:
        OSError: it cannot be had.
    """
    directory = Path(scratch)
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        (directory / "config.json").write_text(json.dumps({"annotations": {}}), encoding="ascii")
        options = AnyMessage(type_url="containerd.runc.v1.Options", value=Options().SerializeToString())
        (directory / "stdin").write_bytes(options.SerializeToString())
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as launcher:
            listener.bind(f"{scratch}/launcher")
            listener.listen()
            launcher.connect(f"{scratch}/launcher")
            send(
                launcher,
                _WORDS.encode().split(),
                [b"NAMESPACE=rehearsal", *_environment()],
                scratch,
                f"{scratch}/stdin",
            )
            connection, _ = listener.accept()
            with connection:
                yield connection
    finally:
        os.chdir("/")
        shutil.rmtree(scratch, ignore_errors=True)
