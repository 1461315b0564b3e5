"""A shim process from the outside: started as containerd starts one, and asked through the same two services.

Source: containerd docs/runtime-v2.md; api/runtime/task/v3, api/runtime/sandbox/v1.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import tomli_w
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from shim.errors import DeadlineExceeded, Unavailable, Unknown
from shim.proto import ocishim_pb2, pod_pb2, runtime_options_pb2, sandbox_pb2, task_v3_pb2
from shim.proto.bootstrap_pb2 import BootstrapParams
from shim.transport.aclient import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from google.protobuf.message import Message

    from shim.linux.pty import Winsize
    from shim.sandbox.config import SandboxConfig

__all__ = ["NAMESPACE", "ShimClient", "clear_after_shim", "start_shim"]

NAMESPACE = "sandbox"
"""Of the containers of this library, apart from those of the command line."""

_PROGRAM = "containerd-shim-ocishim-v2"
_TASK = "containerd.task.v3.Task"
_SANDBOX = "containerd.runtime.sandbox.v1.Sandbox"
_SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/"

_CONNECT_S = 10.0
_QUICK_S = 10.0
_SLOW_S = 90.0
# Wait has no deadline of ours, but the wire has 64 bits of nanoseconds.
_FOREVER_S = 10.0 * 365 * 86400

_Answer = TypeVar("_Answer", bound="Message")


async def start_shim(sandbox_id: str, bundle: Path, socket_dir: str, options: Mapping[str, Any]) -> str:
    """A shim process for the sandbox serves at the address that is returned; its log is in ``bundle``.

    Raises:
        ShimError: it cannot be started.
    """
    value = runtime_options_pb2.Options(config_body=tomli_w.dumps(dict(options)).encode())
    params = BootstrapParams(instance_id=sandbox_id, namespace=NAMESPACE, socket_dir=socket_dir)
    params.extensions.add().value.CopyFrom(
        AnyMessage(type_url="runtimeoptions.v1.Options", value=value.SerializeToString())
    )
    words = ["-namespace", NAMESPACE, "-id", sandbox_id, "start"]
    answer = await _run(f"the shim of sandbox {sandbox_id}", words, bundle, params.SerializeToString())
    return str(json.loads(answer)["address"])


async def clear_after_shim(sandbox_id: str, bundle: Path) -> None:
    """Of the sandbox and its containers, whose shim is gone, no process, mount or cgroup is left.

    Raises:
        ShimError: something stays; it can be tried again.
    """
    words = ["-namespace", NAMESPACE, "-id", sandbox_id, "-bundle", str(bundle), "delete"]
    await _run(f"what the shim of sandbox {sandbox_id} left", words, bundle, b"")


async def _run(what: str, words: list[str], directory: Path, stdin: bytes) -> bytes:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *_program(), *words, cwd=directory, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(_SLOW_S):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        raise DeadlineExceeded(f"{what}: no answer in {_SLOW_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Unknown(f"{what}: {' '.join(err.decode(errors='replace').split())}")
    return out


def _program() -> list[str]:
    beside = os.path.dirname(sys.executable)
    found = shutil.which(_PROGRAM, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    return [found] if found else [sys.executable, "-m", "shim.bootstrap.containerd"]


class ShimClient:
    """A connection to the shim of one sandbox; ``close`` ends it, and nothing else."""

    def __init__(self, sandbox_id: str, client: AsyncClient) -> None:
        self._id = sandbox_id
        self._client = client

    @classmethod
    async def connect(cls, sandbox_id: str, address: str) -> ShimClient:
        """Connected.

        Raises:
            Unavailable: the shim is gone.
        """
        try:
            return cls(sandbox_id, await AsyncClient.connect(address, _CONNECT_S))
        except Unavailable as error:
            raise Unavailable(f"the shim of sandbox {sandbox_id} is gone ({error})") from error

    @property
    def closed(self) -> bool:
        """Whether the shim, or ``close``, ended it."""
        return self._client.closed

    def close(self) -> None:
        """Calls that wait fail with Unavailable."""
        self._client.close()

    async def _call(
        self, service: str, method: str, request: Message, answer: type[_Answer], timeout_s: float
    ) -> _Answer:
        return await self._client.call(
            service, method, request, answer, timeout_s=timeout_s, namespace=NAMESPACE
        )

    async def _task(
        self, method: str, request: Message, answer: type[Any] = Empty, timeout_s: float = _SLOW_S
    ) -> Any:
        return await self._call(_TASK, method, request, answer, timeout_s)

    # The sandbox.

    async def create_sandbox(
        self, config: SandboxConfig, bundle: Path, netns: str, cgroup_parent: str
    ) -> None:
        """The sandbox is known, and not started; ``netns`` is empty where its network is the host's."""
        pod = pod_pb2.PodSandboxConfig(hostname=config.hostname or config.id)
        pod.dns_config.servers.extend(config.nameservers)
        pod.linux.cgroup_parent = cgroup_parent
        pod.linux.sysctls.update(dict(config.sysctls))
        namespaces = pod.linux.security_context.namespace_options
        namespaces.network = pod_pb2.NODE if config.host_network else pod_pb2.POD
        namespaces.pid = pod_pb2.POD if config.share_pids else pod_pb2.CONTAINER
        options = AnyMessage(type_url="runtime.v1.PodSandboxConfig", value=pod.SerializeToString())
        request = sandbox_pb2.CreateSandboxRequest(
            sandbox_id=config.id, bundle_path=str(bundle), netns_path=netns, options=options
        )
        await self._call(_SANDBOX, "CreateSandbox", request, sandbox_pb2.CreateSandboxResponse, _SLOW_S)

    async def start_sandbox(self) -> int:
        """Its namespaces exist; returns the pid of the process that holds them."""
        request = sandbox_pb2.StartSandboxRequest(sandbox_id=self._id)
        answer = await self._call(
            _SANDBOX, "StartSandbox", request, sandbox_pb2.StartSandboxResponse, _SLOW_S
        )
        return int(answer.pid)

    async def sandbox_pid(self) -> int:
        """The pid of the process that holds the namespaces; 0 when it has ended."""
        request = sandbox_pb2.SandboxStatusRequest(sandbox_id=self._id)
        answer = await self._call(
            _SANDBOX, "SandboxStatus", request, sandbox_pb2.SandboxStatusResponse, _QUICK_S
        )
        return int(answer.pid) if answer.state == "SANDBOX_READY" else 0

    async def has_kernel(self) -> bool:
        """Whether the sandbox is gVisor's, and has a kernel of its own."""
        request = sandbox_pb2.SandboxStatusRequest(sandbox_id=self._id, verbose=True)
        answer = await self._call(
            _SANDBOX, "SandboxStatus", request, sandbox_pb2.SandboxStatusResponse, _QUICK_S
        )
        return bool(json.loads(answer.info["shim"])["own_kernel"])

    async def wait_sandbox(self) -> None:
        """The process that holds the namespaces has ended."""
        request = sandbox_pb2.WaitSandboxRequest(sandbox_id=self._id)
        await self._call(_SANDBOX, "WaitSandbox", request, sandbox_pb2.WaitSandboxResponse, _FOREVER_S)

    async def stop_sandbox(self) -> None:
        """Nothing runs in it any more."""
        request = sandbox_pb2.StopSandboxRequest(sandbox_id=self._id, timeout_secs=int(_SLOW_S))
        await self._call(_SANDBOX, "StopSandbox", request, sandbox_pb2.StopSandboxResponse, _SLOW_S)

    async def shut_down_sandbox(self) -> None:
        """It is gone with all its containers, and the shim ends."""
        request = sandbox_pb2.ShutdownSandboxRequest(sandbox_id=self._id)
        await self._call(_SANDBOX, "ShutdownSandbox", request, sandbox_pb2.ShutdownSandboxResponse, _SLOW_S)

    # Its containers, and the processes in them. ``exec_id`` is empty for the init.

    async def create(
        self, container_id: str, bundle: str, streams: tuple[str, str, str], *, terminal: bool
    ) -> int:
        """The container exists, its init waits for ``start``; returns its pid."""
        stdin, stdout, stderr = streams
        request = task_v3_pb2.CreateTaskRequest(
            id=container_id, bundle=bundle, terminal=terminal, stdin=stdin, stdout=stdout, stderr=stderr
        )
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

    async def wait(self, container_id: str, exec_id: str = "") -> int:
        """Its exit status, once it has ended."""
        request = task_v3_pb2.WaitRequest(id=container_id, exec_id=exec_id)
        answer = await self._task("Wait", request, task_v3_pb2.WaitResponse, _FOREVER_S)
        return int(answer.exit_status)

    async def kill(
        self, container_id: str, exec_id: str, signal: int, *, all_processes: bool = False
    ) -> None:
        """The signal was sent."""
        await self._task(
            "Kill",
            task_v3_pb2.KillRequest(id=container_id, exec_id=exec_id, signal=signal, all=all_processes),
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
        answer = await self._call(
            "ocishim.v1.Shim", "Inspect", request, ocishim_pb2.InspectResponse, _QUICK_S
        )
        return dict(json.loads(answer.json))
