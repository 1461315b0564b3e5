"""The Task service of one container's shim, as functions with plain arguments and results.

With ``measurement.py`` all that the command line knows of protobuf. ``begin_`` starts a call and returns at once; a foreground
process has several calls open while it moves bytes. Every call but Wait has a deadline: a shim that hangs must not
hang the command line.

Source: the task API, containerd api/runtime/task/v3/shim.proto.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from shim.containers import measurement
from shim.errors import NotFound, Unavailable
from shim.proto import ocishim_pb2, runc_options_pb2, runtime_options_pb2, task_v3_pb2
from shim.transport.client import Client, PendingCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from shim.containers.measurement import Measurement
    from shim.linux.pty import Winsize

__all__ = ["NAMESPACE", "Ended", "Pending", "Streams", "Task", "WaitAnswer"]

NAMESPACE = "default"

Pending: TypeAlias = PendingCall[Any]
WaitAnswer: TypeAlias = PendingCall[task_v3_pb2.WaitResponse]

_TASK = "containerd.task.v3.Task"
_SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/"

# What the shim answers from memory, and what makes it run the OCI runtime (bounded there by runtime_timeout, 60 s
# unless configured) or wait for output to drain.
_QUICK_S = 10.0
_SLOW_S = 90.0


@dataclass(frozen=True, slots=True)
class Streams:
    """The stdio fields of Create and Exec."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""


class Ended(NamedTuple):
    """How a process ended: its status, and when in nanoseconds since 1970."""

    status: int
    exited_at_ns: int


class Task:
    """One container in its shim, over a connection that it owns."""

    def __init__(self, container_id: str, client: Client) -> None:
        self.id = container_id
        self.client = client

    @classmethod
    def connect(cls, container_id: str, address: str) -> Task:
        """Connected to the shim at ``address``.

        Raises:
            Unavailable: nobody listens there.
        """
        try:
            return cls(container_id, Client.connect(address, namespace=NAMESPACE))
        except Unavailable:
            raise Unavailable(
                f"the shim of container {container_id} is gone; see what is left: ocishim state {container_id}"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """The connection is closed."""
        self.client.close()

    def _begin(
        self, method: str, request: Message, answer: type[Any] = Empty, timeout: float | None = _QUICK_S
    ) -> PendingCall[Any]:
        return self.client.start(_TASK, method, request, answer, timeout)

    def _call(
        self, method: str, request: Message, answer: type[Any] = Empty, timeout: float = _QUICK_S
    ) -> Any:
        return self._begin(method, request, answer, timeout).result()

    def settle(self, call: Pending, timeout_s: float) -> None:
        """``call`` is answered, or ``timeout_s`` is over."""
        deadline = time.monotonic() + timeout_s
        while not call.done and self.client.wait_readable(deadline):
            self.client.receive()

    def begin_create(
        self, bundle: str, streams: Streams, options_toml: str, *, terminal: bool
    ) -> PendingCall[task_v3_pb2.CreateTaskResponse]:
        """Answered, with the pid of init, when the container exists and its init waits for ``start``.

        ``options_toml``: fields of the configuration, see ``shim.config``.
        """
        options = AnyMessage(type_url="runtimeoptions.v1.Options")
        options.value = runtime_options_pb2.Options(config_body=options_toml.encode()).SerializeToString()
        request = task_v3_pb2.CreateTaskRequest(
            id=self.id,
            bundle=bundle,
            terminal=terminal,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            options=options,
        )
        return self._begin("Create", request, task_v3_pb2.CreateTaskResponse, _SLOW_S)

    def exec(self, exec_id: str, process: Mapping[str, Any], streams: Streams, *, terminal: bool) -> None:
        """A process is registered beside init; ``start`` runs it."""
        spec = AnyMessage(type_url=f"{_SPEC_URL}Process", value=json.dumps(process).encode())
        request = task_v3_pb2.ExecProcessRequest(
            id=self.id,
            exec_id=exec_id,
            terminal=terminal,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            spec=spec,
        )
        self._call("Exec", request)

    def start(self, exec_id: str = "") -> int:
        """Init, or an exec, runs; returns its pid."""
        request = task_v3_pb2.StartRequest(id=self.id, exec_id=exec_id)
        return int(self._call("Start", request, task_v3_pb2.StartResponse, _SLOW_S).pid)

    def begin_wait(self, exec_id: str = "", timeout: float | None = None) -> WaitAnswer:
        """Answered when the process has ended."""
        request = task_v3_pb2.WaitRequest(id=self.id, exec_id=exec_id)
        return self._begin("Wait", request, task_v3_pb2.WaitResponse, timeout)

    def begin_kill(self, signal: int, exec_id: str = "", *, all_processes: bool = False) -> Pending:
        """Answered when the signal was sent."""
        request = task_v3_pb2.KillRequest(id=self.id, exec_id=exec_id, signal=signal, all=all_processes)
        return self._begin("Kill", request, timeout=_SLOW_S)

    def kill(self, signal: int, exec_id: str = "", *, all_processes: bool = False) -> None:
        """The signal was sent to init, to an exec, or to every process of the container."""
        self.begin_kill(signal, exec_id, all_processes=all_processes).result()

    def begin_delete(self, exec_id: str = "") -> Pending:
        """Answered when the output is drained and nothing is left of the process in the shim."""
        request = task_v3_pb2.DeleteRequest(id=self.id, exec_id=exec_id)
        return self._begin("Delete", request, task_v3_pb2.DeleteResponse, _SLOW_S)

    def delete(self, exec_id: str = "") -> Ended:
        """The container, or an exec, is gone; returns how it ended."""
        answer = self.begin_delete(exec_id).result()
        return Ended(answer.exit_status, answer.exited_at.ToNanoseconds())

    def begin_resize(self, size: Winsize, exec_id: str = "") -> Pending:
        """Answered when the terminal has ``size``, or will have it once there is one."""
        request = task_v3_pb2.ResizePtyRequest(id=self.id, exec_id=exec_id, width=size.cols, height=size.rows)
        return self._begin("ResizePty", request)

    def begin_close_stdin(self, exec_id: str = "") -> Pending:
        """Answered when stdin ends as soon as all that was written to it is read."""
        return self._begin("CloseIO", task_v3_pb2.CloseIORequest(id=self.id, exec_id=exec_id, stdin=True))

    def pause(self) -> None:
        """Every process of the container is frozen."""
        self._call("Pause", task_v3_pb2.PauseRequest(id=self.id), timeout=_SLOW_S)

    def resume(self) -> None:
        """They go on."""
        self._call("Resume", task_v3_pb2.ResumeRequest(id=self.id), timeout=_SLOW_S)

    def update(self, resources: Mapping[str, Any]) -> None:
        """The limits in ``resources`` (LinuxResources) are in force."""
        value = AnyMessage(type_url=f"{_SPEC_URL}LinuxResources", value=json.dumps(resources).encode())
        self._call("Update", task_v3_pb2.UpdateTaskRequest(id=self.id, resources=value), timeout=_SLOW_S)

    def pids(self) -> list[tuple[int, str]]:
        """Every process that lives: its pid on the host, and its exec id where it is one."""
        # A shim lists the init of a container that has ended, since containerd takes one that lists nothing for leaked.
        if self.inspect()["status"] == "stopped":
            return []
        answer = self._call("Pids", task_v3_pb2.PidsRequest(id=self.id), task_v3_pb2.PidsResponse, _SLOW_S)
        return [(info.pid, _exec_id(info.info)) for info in answer.processes]

    def stats(self) -> Measurement:
        """What the container uses.

        Raises:
            NotFound: it has no cgroup, or not any more.
        """
        request = task_v3_pb2.StatsRequest(id=self.id)
        return measurement.read(self._call("Stats", request, task_v3_pb2.StatsResponse).stats)

    def shutdown(self) -> None:
        """The shim ends, unless it has other containers. It may be gone before it has answered."""
        try:
            self._call("Shutdown", task_v3_pb2.ShutdownRequest(id=self.id))
        except (Unavailable, NotFound):
            return

    def inspect(self) -> dict[str, Any]:
        """All that the shim knows of the container; the members are in the documentation of the service."""
        answer = self.client.call(
            "ocishim.v1.Shim",
            "Inspect",
            ocishim_pb2.InspectRequest(id=self.id),
            ocishim_pb2.InspectResponse,
            _QUICK_S,
        )
        return dict(json.loads(answer.json))


def _exec_id(info: AnyMessage) -> str:
    details = runc_options_pb2.ProcessDetails()
    if info.type_url.endswith("containerd.runc.v1.ProcessDetails"):
        details.ParseFromString(info.value)
    return details.exec_id
