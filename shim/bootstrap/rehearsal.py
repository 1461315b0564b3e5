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

from shim.bootstrap.life import EVENTS, SPEC
from shim.bootstrap.request import send
from shim.proto.runc_options_pb2 import Options
from shim.proto.task_v3_pb2 import ConnectRequest, ShutdownRequest
from shim.proto.ttrpc_pb2 import Request
from shim.ttrpc.connection import Connection, Role

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["client", "rehearsal"]

_WORDS = "launcher -namespace rehearsal -address / -publish-binary / -id rehearsal start"


def _environment() -> list[bytes]:
    """The template's; the configuration of whoever started it may be gone by now, and events are nobody else's business."""
    variables = dict(os.environb)
    if not os.path.exists(variables.get(b"OCISHIM_CONFIG", b"/")):
        del variables[b"OCISHIM_CONFIG"]
    variables[b"TTRPC_ADDRESS"] = EVENTS.encode()
    return [name + b"=" + value for name, value in variables.items()]


@contextmanager
def rehearsal(scratch: str) -> Iterator[socket.socket]:
    """A connection from a launcher that has sent its request, working directory ``scratch``; afterwards that is gone.

    Raises:
        OSError: it cannot be had.
    """
    directory = Path(scratch)
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        (directory / "config.json").write_text(json.dumps(SPEC), encoding="ascii")
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


@contextmanager
def client(path: str) -> Iterator[None]:
    """A client of the shim at ``path`` that has asked who it is, and to shut down; it reads no answers."""
    machine = Connection(Role.CLIENT)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        for method, message in (("Connect", ConnectRequest()), ("Shutdown", ShutdownRequest())):
            request = Request(
                service="containerd.task.v3.Task", method=method, payload=message.SerializeToString()
            )
            connection.send(machine.open_stream(request.SerializeToString())[1])
        connection.shutdown(socket.SHUT_WR)
        yield
