"""containerd.runtime.sandbox.v1.Sandbox: pods without a pause image, for ``sandboxer = "shim"``.

Source: containerd api/runtime/sandbox/v1/sandbox.proto, plugins/sandbox/controller.go; kubernetes cri-api api.proto.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from shim.errors import DeadlineExceeded, InvalidArgument
from shim.linux.user_namespace import IdRange
from shim.oci.identifiers import validate_id
from shim.process.holder import Namespaces
from shim.process.mapped_holder import IdMaps
from shim.proto import sandbox_pb2 as wire
from shim.proto.pod_pb2 import NODE, POD, PodSandboxConfig
from shim.proto.pod_pb2 import NamespaceOption as WireNamespaces
from shim.proto.sandbox_types_pb2 import Metric, Platform
from shim.service.event_messages import timestamp
from shim.service.metrics import to_any
from shim.service.options import start_options, with_options
from shim.task.sandbox_request import SandboxRequest
from shim.transport.calls import Method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.service.sandboxes import Sandboxes
    from shim.transport.calls import CallContext

__all__ = ["SandboxService"]

_POD_CONFIG = "runtime.v1.PodSandboxConfig"
_STOP_S = 10.0
_READY, _NOT_READY = "SANDBOX_READY", "SANDBOX_NOTREADY"
_GO_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class SandboxService:
    """Answers for the sandboxes of one shim."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes

    def services(self) -> Mapping[str, Mapping[str, Method]]:
        """The methods, ready for a server."""
        methods = {
            "CreateSandbox": Method(self.create, wire.CreateSandboxRequest, shielded=True),
            "StartSandbox": Method(self.start, wire.StartSandboxRequest, shielded=True),
            "Platform": Method(self.platform, wire.PlatformRequest),
            "StopSandbox": Method(self.stop, wire.StopSandboxRequest, shielded=True),
            "WaitSandbox": Method(self.wait, wire.WaitSandboxRequest),
            "SandboxStatus": Method(self.status, wire.SandboxStatusRequest),
            "PingSandbox": Method(self.ping, wire.PingRequest),
            "ShutdownSandbox": Method(self.shut_down, wire.ShutdownSandboxRequest, shielded=True),
            "SandboxMetrics": Method(self.metrics, wire.SandboxMetricsRequest),
        }
        return {"containerd.runtime.sandbox.v1.Sandbox": methods}

    async def create(self, request: wire.CreateSandboxRequest, _: CallContext) -> wire.CreateSandboxResponse:
        """The sandbox is known; nothing of it exists yet."""
        validate_id(request.sandbox_id, "sandbox id")
        if not os.path.isabs(request.bundle_path):
            raise InvalidArgument(f"bundle {request.bundle_path!r} must be an absolute path")
        config = _pod_config(request)
        self._sandboxes.create(
            SandboxRequest(
                request.sandbox_id,
                request.bundle_path,
                _namespaces(config, request.netns_path),
                config.linux.cgroup_parent,
                _resolv_conf(config),
                with_options(self._sandboxes.config, start_options(request.bundle_path)),
            )
        )
        return wire.CreateSandboxResponse()

    async def start(self, request: wire.StartSandboxRequest, _: CallContext) -> wire.StartSandboxResponse:
        """Containers can be made in it."""
        sandbox = self._sandboxes.get(request.sandbox_id)
        await sandbox.start()
        return wire.StartSandboxResponse(pid=sandbox.pid, created_at=timestamp(sandbox.created_at_ns))

    async def platform(self, request: wire.PlatformRequest, _: CallContext) -> wire.PlatformResponse:
        """What its containers run on: this host."""
        self._sandboxes.get(request.sandbox_id)
        machine = platform.machine()
        variant = "v7" if machine == "armv7l" else ""
        found = Platform(os="linux", architecture=_GO_MACHINES.get(machine, machine), variant=variant)
        return wire.PlatformResponse(platform=found)

    async def stop(self, request: wire.StopSandboxRequest, _: CallContext) -> wire.StopSandboxResponse:
        """Nothing runs in it any more."""
        budget_s = request.timeout_secs or _STOP_S
        try:
            async with asyncio.timeout(budget_s):
                await self._sandboxes.stop(request.sandbox_id)
        except TimeoutError:
            raise DeadlineExceeded(
                f"sandbox {request.sandbox_id} did not stop within {budget_s:g} s"
            ) from None
        return wire.StopSandboxResponse()

    async def wait(self, request: wire.WaitSandboxRequest, _: CallContext) -> wire.WaitSandboxResponse:
        """Its end, once it has come."""
        ended = await self._sandboxes.get(request.sandbox_id).wait()
        return wire.WaitSandboxResponse(exit_status=ended.status, exited_at=timestamp(ended.exited_at_ns))

    async def status(self, request: wire.SandboxStatusRequest, _: CallContext) -> wire.SandboxStatusResponse:
        """It as it is now."""
        sandbox = self._sandboxes.get(request.sandbox_id)
        response = wire.SandboxStatusResponse(
            sandbox_id=sandbox.id, pid=sandbox.pid, state=_READY if sandbox.ready else _NOT_READY
        )
        if sandbox.created_at_ns:
            response.created_at.CopyFrom(timestamp(sandbox.created_at_ns))
        if sandbox.exit is not None:
            response.exited_at.CopyFrom(timestamp(sandbox.exit.exited_at_ns))
        if request.verbose:
            response.info["shim"] = json.dumps(
                {
                    "pid": os.getpid(),
                    "holder": sandbox.pid,
                    "own_kernel": sandbox.own_kernel,
                    "containers": [container.id for container in self._sandboxes.members(sandbox.id)],
                    "network": sandbox.request.namespaces.network,
                }
            )
        return response

    async def ping(self, request: wire.PingRequest, _: CallContext) -> wire.PingResponse:
        """Nothing, for a sandbox that there is."""
        self._sandboxes.get(request.sandbox_id)
        return wire.PingResponse()

    async def shut_down(
        self, request: wire.ShutdownSandboxRequest, _: CallContext
    ) -> wire.ShutdownSandboxResponse:
        """It is gone, and the shim ends after this answer."""
        await self._sandboxes.shut_down(request.sandbox_id)
        return wire.ShutdownSandboxResponse()

    async def metrics(
        self, request: wire.SandboxMetricsRequest, _: CallContext
    ) -> wire.SandboxMetricsResponse:
        """What all of the pod uses."""
        statistics, unified = self._sandboxes.statistics(request.sandbox_id)
        metric = Metric(
            timestamp=timestamp(time.time_ns()),
            id=request.sandbox_id,
            data=to_any(statistics, unified=unified),
        )
        return wire.SandboxMetricsResponse(metrics=metric)


def _pod_config(request: wire.CreateSandboxRequest) -> PodSandboxConfig:
    # Whoever is not CRI has options of his own, which say nothing to us.
    if request.options.type_url.rpartition("/")[2] != _POD_CONFIG:
        return PodSandboxConfig()
    try:
        config = PodSandboxConfig.FromString(request.options.value)
    except DecodeError as error:
        raise InvalidArgument(f"{_POD_CONFIG} of a sandbox cannot be decoded: {error}") from error
    return config


def _namespaces(config: PodSandboxConfig, network: str) -> Namespaces:
    wanted: WireNamespaces = config.linux.security_context.namespace_options
    # With the host's network comes the host's name.
    host_network = wanted.network == NODE
    return Namespaces(
        network="" if host_network else network,
        ipc=wanted.ipc != NODE,
        pids=wanted.pid == POD,
        uts=not host_network,
        hostname=config.hostname,
        sysctls=dict(config.linux.sysctls),
        user=_id_maps(wanted),
    )


def _id_maps(wanted: WireNamespaces) -> IdMaps | None:
    options = wanted.userns_options
    if not wanted.HasField("userns_options") or options.mode != POD:
        return None
    uids, gids = (
        tuple(IdRange(m.container_id, m.host_id, m.length) for m in maps)
        for maps in (options.uids, options.gids)
    )
    return IdMaps(uids, gids)


def _resolv_conf(config: PodSandboxConfig) -> str:
    dns = config.dns_config
    lines = [f"nameserver {server}" for server in dns.servers]
    lines += [
        f"{key} {' '.join(words)}"
        for key, words in (("search", dns.searches), ("options", dns.options))
        if words
    ]
    return "".join(f"{line}\n" for line in lines)
