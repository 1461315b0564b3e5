"""The Task service of a shim for whoever has an event loop: any number of containers and calls over one connection.

Source: containerd api/runtime/task/v3/shim.proto.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from shim.errors import InvalidArgument, Unavailable
from shim.proto import ocishim_pb2, runc_options_pb2, runtime_options_pb2, task_v3_pb2
from shim.transport.aclient import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from shim.linux.pty import Winsize

__all__ = ["FOREVER_S", "QUICK_S", "SLOW_S", "CheckpointFlags", "TaskClient", "dial", "signal_number"]

_TASK = "containerd.task.v3.Task"
_SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/"

_CONNECT_S = 10.0
QUICK_S = 10.0
"""For what a shim answers from memory."""
SLOW_S = 90.0
"""For what makes it run the OCI runtime."""
# Wait has no deadline of ours, but the wire has 64 bits of nanoseconds.
FOREVER_S = 10.0 * 365 * 86400
_SIGNALS = range(1, 65)

_Answer = TypeVar("_Answer", bound="Message")


async def dial(what: str, address: str) -> AsyncClient:
    """A connection to ``what``, which serves at ``address``.

    Raises:
        Unavailable: it is gone.
    """
    try:
        return await AsyncClient.connect(address, _CONNECT_S)
    except Unavailable as error:
        raise Unavailable(f"{what} is gone ({error})") from error


def signal_number(number: int) -> int:
    """``number``, which is a signal.

    Raises:
        InvalidArgument: it is none.
    """
    if number not in _SIGNALS:
        raise InvalidArgument(f"{number} is no signal; they are 1 to {_SIGNALS[-1]}")
    return number


class CheckpointFlags(NamedTuple):
    """How a container is written to an image."""

    exit: bool = False
    """It ends with that."""
    open_tcp: bool = False
    external_unix_sockets: bool = False
    terminal: bool = False
    """It has one."""


class TaskClient:
    """Calls for the containers of one namespace; ``close`` ends the connection, and nothing else.

    ``exec_id`` is empty for the init.
    """

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    @property
    def closed(self) -> bool:
        """Whether the shim, or ``close``, ended it."""
        return self._client.closed

    def close(self) -> None:
        """Calls that wait fail with Unavailable."""
        self._client.close()

    async def call(
        self, service: str, method: str, request: Message, answer: type[_Answer], timeout_s: float
    ) -> _Answer:
        """The answer of any service of the shim."""
        return await self._client.call(
            service, method, request, answer, timeout_s=timeout_s, namespace=self._namespace
        )

    async def _task(
        self, method: str, request: Message, answer: type[Any] = Empty, timeout_s: float = SLOW_S
    ) -> Any:
        return await self.call(_TASK, method, request, answer, timeout_s)

    async def create(
        self,
        container_id: str,
        bundle: str,
        streams: tuple[str, str, str],
        *,
        terminal: bool,
        checkpoint: str = "",
        options_toml: str = "",
    ) -> int:
        """The container exists, its init waits for ``start``; returns its pid.

        With ``checkpoint``, the directory of an image, there is no init until ``start`` restores it. ``options_toml``:
        fields of the configuration, see ``shim.config``.
        """
        stdin, stdout, stderr = streams
        request = task_v3_pb2.CreateTaskRequest(
            id=container_id, bundle=bundle, terminal=terminal, stdin=stdin, stdout=stdout, stderr=stderr,
            checkpoint=checkpoint,
        )  # fmt: skip
        if options_toml:
            options = runtime_options_pb2.Options(config_body=options_toml.encode())
            request.options.type_url = "runtimeoptions.v1.Options"
            request.options.value = options.SerializeToString()
        return int((await self._task("Create", request, task_v3_pb2.CreateTaskResponse)).pid)

    async def exec(
        self, container_id: str, exec_id: str, process: Mapping[str, Any], streams: tuple[str, str, str]
    ) -> None:
        """A process is registered; ``start`` runs it."""
        stdin, stdout, stderr = streams
        request = task_v3_pb2.ExecProcessRequest(
            id=container_id, exec_id=exec_id, terminal=bool(process.get("terminal")),
            stdin=stdin, stdout=stdout, stderr=stderr,
            spec=AnyMessage(type_url=f"{_SPEC_URL}Process", value=json.dumps(process).encode()),
        )  # fmt: skip
        await self._task("Exec", request)

    async def start(self, container_id: str, exec_id: str = "") -> int:
        """It runs; returns its pid."""
        request = task_v3_pb2.StartRequest(id=container_id, exec_id=exec_id)
        return int((await self._task("Start", request, task_v3_pb2.StartResponse)).pid)

    async def outputs(self, container_id: str, exec_id: str = "") -> tuple[str, str]:
        """Where stdout and stderr go, as they were given to ``create`` or ``exec``."""
        request = task_v3_pb2.StateRequest(id=container_id, exec_id=exec_id)
        answer = await self._task("State", request, task_v3_pb2.StateResponse, QUICK_S)
        return answer.stdout, answer.stderr

    async def wait(self, container_id: str, exec_id: str = "") -> int:
        """Its exit status, once it has ended."""
        request = task_v3_pb2.WaitRequest(id=container_id, exec_id=exec_id)
        answer = await self._task("Wait", request, task_v3_pb2.WaitResponse, FOREVER_S)
        return int(answer.exit_status)

    async def kill(
        self, container_id: str, exec_id: str, signal: int, *, all_processes: bool = False
    ) -> None:
        """The signal was sent.

        Raises:
            InvalidArgument: it is none.
        """
        number = signal_number(signal)
        await self._task(
            "Kill",
            task_v3_pb2.KillRequest(id=container_id, exec_id=exec_id, signal=number, all=all_processes),
        )

    async def delete(self, container_id: str, exec_id: str = "") -> None:
        """Nothing is left of it."""
        await self._task(
            "Delete",
            task_v3_pb2.DeleteRequest(id=container_id, exec_id=exec_id),
            task_v3_pb2.DeleteResponse,
        )

    async def resize(self, container_id: str, exec_id: str, size: Winsize) -> None:
        """Its terminal has that size."""
        await self._task(
            "ResizePty",
            task_v3_pb2.ResizePtyRequest(id=container_id, exec_id=exec_id, width=size.cols, height=size.rows),
        )

    async def close_stdin(self, container_id: str, exec_id: str) -> None:
        """Its stdin ends as soon as all that was written to it is read."""
        await self._task("CloseIO", task_v3_pb2.CloseIORequest(id=container_id, exec_id=exec_id, stdin=True))

    async def pids(self, container_id: str) -> dict[int, str]:
        """Every process by its pid on the host, with its exec id where it is one; of one that has ended, its init."""
        request = task_v3_pb2.PidsRequest(id=container_id)
        answer = await self._task("Pids", request, task_v3_pb2.PidsResponse, QUICK_S)
        return {info.pid: _exec_id(info.info) for info in answer.processes}

    async def checkpoint(self, container_id: str, path: str, flags: CheckpointFlags) -> None:
        """The container is an image in the directory ``path``."""
        options = runc_options_pb2.CheckpointOptions(**flags._asdict())
        request = task_v3_pb2.CheckpointTaskRequest(id=container_id, path=path)
        request.options.type_url = "containerd.runc.v1.CheckpointOptions"
        request.options.value = options.SerializeToString()
        await self._task("Checkpoint", request)

    async def pause(self, container_id: str) -> None:
        """Every process of the container is frozen."""
        await self._task("Pause", task_v3_pb2.PauseRequest(id=container_id))

    async def resume(self, container_id: str) -> None:
        """They go on."""
        await self._task("Resume", task_v3_pb2.ResumeRequest(id=container_id))

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        """The limits in ``resources`` (LinuxResources) are in force."""
        value = AnyMessage(type_url=f"{_SPEC_URL}LinuxResources", value=json.dumps(resources).encode())
        await self._task("Update", task_v3_pb2.UpdateTaskRequest(id=container_id, resources=value))

    async def stats(self, container_id: str) -> AnyMessage:
        """What the container uses, as the message of one of the two versions of cgroups."""
        request = task_v3_pb2.StatsRequest(id=container_id)
        answer = await self._task("Stats", request, task_v3_pb2.StatsResponse)
        stats: AnyMessage = answer.stats
        return stats

    async def inspect(self, container_id: str) -> dict[str, Any]:
        """All that the shim knows of the container."""
        request = ocishim_pb2.InspectRequest(id=container_id)
        answer = await self.call("ocishim.v1.Shim", "Inspect", request, ocishim_pb2.InspectResponse, QUICK_S)
        return dict(json.loads(answer.json))


def _exec_id(info: AnyMessage) -> str:
    details = runc_options_pb2.ProcessDetails()
    if info.type_url.endswith(details.DESCRIPTOR.full_name):
        details.ParseFromString(info.value)
    return details.exec_id
