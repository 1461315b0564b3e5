"""The shim process of a sandbox from the outside: started as containerd starts one, and asked through the same two services.

Source: containerd docs/runtime-v2.md; api/runtime/sandbox/v1.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import tomli_w
from google.protobuf.any_pb2 import Any as AnyMessage

from shim.errors import DeadlineExceeded, Unknown
from shim.proto import pod_pb2, runtime_options_pb2, sandbox_pb2
from shim.proto.bootstrap_pb2 import BootstrapParams
from shim.sandbox.task_client import FOREVER_S, QUICK_S, SLOW_S, TaskClient, dial

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shim.sandbox.config import SandboxConfig
    from shim.transport.aclient import AsyncClient

__all__ = ["NAMESPACE", "ShimClient", "clear_after_shim", "start_shim"]

NAMESPACE = "sandbox"
"""Of the containers of this library, apart from those of the command line."""

_PROGRAM = "containerd-shim-ocishim-v2"
_SANDBOX = "containerd.runtime.sandbox.v1.Sandbox"


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
        async with asyncio.timeout(SLOW_S):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        raise DeadlineExceeded(f"{what}: no answer in {SLOW_S:g} s") from None
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


class ShimClient(TaskClient):
    """A connection to the shim of one sandbox; ``close`` ends it, and nothing else."""

    def __init__(self, sandbox_id: str, client: AsyncClient) -> None:
        super().__init__(client, NAMESPACE)
        self._id = sandbox_id

    @classmethod
    async def connect(cls, sandbox_id: str, address: str) -> ShimClient:
        """Connected.

        Raises:
            Unavailable: the shim is gone.
        """
        return cls(sandbox_id, await dial(f"the shim of sandbox {sandbox_id}", address))

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
        await self.call(_SANDBOX, "CreateSandbox", request, sandbox_pb2.CreateSandboxResponse, SLOW_S)

    async def start_sandbox(self) -> int:
        """Its namespaces exist; returns the pid of the process that holds them."""
        request = sandbox_pb2.StartSandboxRequest(sandbox_id=self._id)
        answer = await self.call(_SANDBOX, "StartSandbox", request, sandbox_pb2.StartSandboxResponse, SLOW_S)
        return int(answer.pid)

    async def sandbox_pid(self) -> int:
        """The pid of the process that holds the namespaces; 0 when it has ended."""
        request = sandbox_pb2.SandboxStatusRequest(sandbox_id=self._id)
        answer = await self.call(
            _SANDBOX, "SandboxStatus", request, sandbox_pb2.SandboxStatusResponse, QUICK_S
        )
        return int(answer.pid) if answer.state == "SANDBOX_READY" else 0

    async def has_kernel(self) -> bool:
        """Whether the sandbox is gVisor's, and has a kernel of its own."""
        request = sandbox_pb2.SandboxStatusRequest(sandbox_id=self._id, verbose=True)
        answer = await self.call(
            _SANDBOX, "SandboxStatus", request, sandbox_pb2.SandboxStatusResponse, QUICK_S
        )
        return bool(json.loads(answer.info["shim"])["own_kernel"])

    async def wait_sandbox(self) -> None:
        """The process that holds the namespaces has ended."""
        request = sandbox_pb2.WaitSandboxRequest(sandbox_id=self._id)
        await self.call(_SANDBOX, "WaitSandbox", request, sandbox_pb2.WaitSandboxResponse, FOREVER_S)

    async def stop_sandbox(self) -> None:
        """Nothing runs in it any more."""
        request = sandbox_pb2.StopSandboxRequest(sandbox_id=self._id, timeout_secs=int(SLOW_S))
        await self.call(_SANDBOX, "StopSandbox", request, sandbox_pb2.StopSandboxResponse, SLOW_S)

    async def shut_down_sandbox(self) -> None:
        """It is gone with all its containers, and the shim ends."""
        request = sandbox_pb2.ShutdownSandboxRequest(sandbox_id=self._id)
        await self.call(_SANDBOX, "ShutdownSandbox", request, sandbox_pb2.ShutdownSandboxResponse, SLOW_S)
