"""The whole life of a container, for a shim that rehearses: its client, whoever takes its events, and its runtime are played.

Nothing of it is real but processes: no mount, namespace or cgroup is made, and the container's init is a sleep.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from shim.linux.fd import OwnedFd
from shim.linux.memfd import memfd_create
from shim.linux.prctl import set_parent_death_signal
from shim.proto import task_v3_pb2 as task
from shim.proto.runtime_options_pb2 import Options
from shim.proto.ttrpc_pb2 import Response
from shim.transport.client import Client
from shim.ttrpc import Connection, RequestReceived, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["EVENTS", "SPEC", "whole_life"]

EVENTS = "events"
"""Where events are taken, seen from the bundle."""

SPEC = {
    "ociVersion": "1.0.2",
    "process": {"args": ["sleep"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
    "root": {"path": "."},
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
    "annotations": {},
}

_ID = "rehearsal"
_DEADLINE_S = 5.0
# The init ends by itself, soon, where a rehearsal is killed that would have killed it.
_RUNTIME = b"""#!/bin/sh
while [ $# -gt 1 ]; do
    if [ "$1" = --pid-file ]; then
        sleep 3 &
        echo $! > "$2"
    fi
    shift
done
"""


@contextmanager
def whole_life(path: str) -> Iterator[None]:
    """Meanwhile a container lives and ends in the shim at ``path``, which then is asked to end; the bundle is our directory.

    Raises:
        OSError: it cannot be played here.
    """
    with _program(_RUNTIME) as runtime, socket.socket(socket.AF_UNIX) as events:
        os.symlink(runtime, "runc")
        events.bind(EVENTS)
        events.listen()
        events.settimeout(_DEADLINE_S)
        pids = [_begin(lambda: _client(path)), _begin(lambda: _take(events))]
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ChildProcessError):  # the shim reaps what ends in its time
                    os.waitpid(pid, 0)


@contextmanager
def _program(text: bytes) -> Iterator[str]:
    """A path at which ``text`` can be executed: where run-time state is kept is often no place for programs."""
    with memfd_create("runtime", text) as written:
        # While a file is open for writing it is busy for execve(2).
        file = OwnedFd(os.open(f"/proc/self/fd/{written.fileno()}", os.O_RDONLY | os.O_CLOEXEC))
    with file:
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _begin(play: Callable[[], None]) -> int:
    """``play`` runs in a process of its own; returns its pid."""
    pid = os.fork()
    if not pid:
        try:
            set_parent_death_signal(signal.SIGKILL)
            play()
        finally:
            os._exit(0)
    return pid


def _client(path: str) -> None:
    with Client.connect(path, namespace=_ID) as client:
        begin = partial(client.start, "containerd.task.v3.Task", timeout=_DEADLINE_S)
        begin("Connect", task.ConnectRequest(id=_ID), task.ConnectResponse).result()
        try:
            begin("Create", _create(), task.CreateTaskResponse).result()
            wait = begin("Wait", task.WaitRequest(id=_ID), task.WaitResponse)
            begin("Start", task.StartRequest(id=_ID), task.StartResponse).result()
            begin("State", task.StateRequest(id=_ID), task.StateResponse).result()
            begin("Kill", task.KillRequest(id=_ID, signal=signal.SIGKILL), Empty).result()
            wait.result()
            begin("Delete", task.DeleteRequest(id=_ID), task.DeleteResponse).result()
        finally:
            begin("Shutdown", task.ShutdownRequest(id=_ID), Empty).result()


def _create() -> task.CreateTaskRequest:
    settings = f'state_root = "."\nruntime = {json.dumps(os.path.abspath("runc"))}\n'
    options = Options(config_body=settings.encode()).SerializeToString()
    return task.CreateTaskRequest(
        id=_ID,
        bundle=os.getcwd(),
        options=AnyMessage(type_url="runtimeoptions.v1.Options", value=options),
    )


def _take(events: socket.socket) -> None:
    machine = Connection(Role.SERVER)
    connection, _ = events.accept()
    while data := connection.recv(65536):
        for event in machine.receive_data(data):
            if isinstance(event, RequestReceived):
                connection.sendall(machine.send_response(event.stream_id, Response().SerializeToString()))
