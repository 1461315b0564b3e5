"""Kubernetes' side of containerd: a daemon that serves its CRI, and what a kubelet says to it.

The daemon lives in a network namespace of its own, so that the CNI plugins, which make links and switch forwarding on,
do so there and not on this host. Messages come from ``cri.proto`` beside this file, which grpc compiles when it is
imported.
"""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
from support import bed, images, templates
from support.containerd import RUNTIME, Containerd
from support.cri_streams import Channels, opened

__all__ = ["CRI", "KERNELS", "SANDBOXES", "KubernetesContainerd", "Pod"]

CRI, _services = grpc.protos_and_services("support/cri.proto")
_PLUGINS = Path("/usr/lib/cni")
_CALL_S = 60.0


_SANDBOXED, _STREAMED, _KERNEL = "sandboxed", "streamed", "kernel"
SANDBOXES = [_SANDBOXED, _STREAMED] if bed.has_containerd2() else []
"""The runtime handlers of pods without a pause image, where containerd knows of such; of the second, stdio goes over ttrpc."""
KERNELS = [_KERNEL] if bed.has_containerd2() and bed.has_steady_runsc() else []
"""That of such pods in gVisor."""

# 1.6 takes the default class of a kernel without hugetlb or AppArmor for an error.
_CRI = """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{plugins}"
  conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  default_runtime_name = "runc"
"""
_HANDLER = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
  runtime_type = "{runtime}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
  TypeUrl = "runtimeoptions.v1.Options"
  ConfigPath = "{path}"
"""
_SANDBOX_HANDLER = f"""
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{_SANDBOXED}]
  runtime_type = "{RUNTIME}"
  sandboxer = "shim"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{_STREAMED}]
  runtime_type = "{RUNTIME}"
  sandboxer = "shim"
  io_type = "streaming"
"""
# containerd before 2.3.1 makes no container in such a pod when its handler has options: the settings come by another program.
_KERNEL_HANDLER = f"""
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{_KERNEL}]
  runtime_type = "{{program}}"
  sandboxer = "shim"
"""
_KERNEL_PROGRAM = """#!/bin/sh
OCISHIM_CONFIG={config} exec containerd-shim-ocishim-v2 "$@"
"""
_PATH_HANDLER = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.path]
  runtime_type = "io.containerd.runc.v2"
  runtime_path = "{program}"
"""
_RUNSC_CONFIG = """
[runsc_config]
# Some of the pods have the host's network, which gVisor's own stack refuses to take over.
network = "host"
"""


class KubernetesContainerd(Containerd):
    """Its runtime handlers are named as the OCI runtimes that our shim runs for them."""

    namespace = "k8s.io"
    disabled = tuple(name for name in Containerd.disabled if not name.endswith(".cri"))

    def __init__(self, folder: Path, disk: Path) -> None:
        bed.need(_PLUGINS.is_dir(), "no CNI plugins: apt-get install containernetworking-plugins")
        (folder / "cni").mkdir()
        (folder / "cni" / "10-pods.conflist").write_text(json.dumps(_network(disk)))
        super().__init__(folder, disk)
        self.channel: grpc.Channel | None = None
        self.network = folder / "netns"
        """Outlives the daemon, as this host's would."""

    def configuration(self) -> str:
        """As of every daemon, with CRI and a handler for each OCI runtime."""
        text = super().configuration()
        text += _CRI.format(pause=images.PAUSE, plugins=_PLUGINS, folder=self.folder)
        for name in ("runc", "crun", "runsc"):
            path = self.folder / f"{name}.toml"
            path.write_text(
                self.shim_config.read_text()
                + f'runtime = "{name}"\n'
                + (_RUNSC_CONFIG if name == "runsc" else "")
            )
            text += _HANDLER.format(name=name, runtime=RUNTIME, path=path)
        program = self.folder / "containerd-shim-kernel-v2"
        program.write_text(_KERNEL_PROGRAM.format(config=self.folder / "runsc.toml"))
        program.chmod(0o755)
        if SANDBOXES:
            text += _SANDBOX_HANDLER + _KERNEL_HANDLER.format(program=program)
            text += _PATH_HANDLER.format(program=templates.installed() / templates.LAUNCHER)
        return text

    def program(self) -> list[str]:
        """In the network namespace."""
        return ["nsenter", f"--net={self.network}", "--", *super().program()]

    def start(self) -> None:
        if not self.network.exists():
            self.network.touch()
            subprocess.run(["unshare", f"--net={self.network}", "ip", "link", "set", "lo", "up"], check=True)
        super().start()
        if self.channel is not None:
            self.channel.close()
        self.channel = grpc.insecure_channel(f"unix://{self.socket}")
        bed.until(self._ready, "the network of pods is not ready")

    def close(self) -> None:
        if self.channel is not None:
            self.remove_pods()
            self.channel.close()
        super().close()

    def call(self, method: str, request: Any) -> Any:
        """The answer of RuntimeService; raises grpc.RpcError."""
        stub = _services.RuntimeServiceStub(self.channel)
        return getattr(stub, method)(request, timeout=_CALL_S, wait_for_ready=True)

    def run_pod(self, name: str, handler: str = "runc", **options: Any) -> Pod:
        """A pod runs; ``options`` are those of ``Pod``."""
        deadline = time.monotonic() + _CALL_S
        while True:
            try:
                return Pod(self, name, handler, **options)
            except grpc.RpcError as error:
                # CRI hears of an image that was just imported by an event, after the import has returned.
                if "get sandbox image" not in (error.details() or "") or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def pods(self) -> dict[str, int]:
        """The state of every pod by its id."""
        return {pod.id: pod.state for pod in self.call("ListPodSandbox", CRI.Nothing()).items}

    def remove_pods(self) -> None:
        """No pod is left."""
        for pod in self.pods():
            self.call("StopPodSandbox", CRI.PodSandboxRequest(pod_sandbox_id=pod))
            self.call("RemovePodSandbox", CRI.PodSandboxRequest(pod_sandbox_id=pod))

    def _ready(self) -> bool:
        try:
            status = self.call("Status", CRI.StatusRequest()).status
        except grpc.RpcError as error:
            # It listens before it has found out what became of the pods of an earlier life. The code differs by version.
            if "not initialized" in (error.details() or ""):
                return False
            raise
        return all(condition.status for condition in status.conditions)


class Pod:
    """One pod and what is done with it.

    ``host_network``: that of the daemon, the default where it works; ``shared_pids``: one pid namespace for all;
    ``cgroup_parent``: a cgroup that whoever asks has made, as a kubelet does; ``ids``: the first of 65,536 ids on this host
    that are those of a user namespace, 0 for none.
    """

    def __init__(
        self,
        daemon: KubernetesContainerd,
        name: str,
        handler: str,
        *,
        host_network: bool | None = None,
        shared_pids: bool = False,
        cgroup_parent: str = "",
        ids: int = 0,
    ) -> None:
        self._daemon = daemon
        if host_network is None:
            # containerd 2.1 crashes where it is to give a sandbox of a shim's the host's network (issue 12983).
            host_network = handler not in (*SANDBOXES, *KERNELS)
        self.logs = daemon.disk / "pods" / f"{name}-{handler}"
        self._namespaces = CRI.NamespaceOption(
            network=CRI.NODE if host_network else CRI.POD, pid=CRI.POD if shared_pids else CRI.CONTAINER
        )
        if ids:
            maps = [CRI.IDMapping(host_id=ids, container_id=0, length=65536)]
            self._namespaces.userns_options.CopyFrom(CRI.UserNamespace(mode=CRI.POD, uids=maps, gids=maps))
        self.config = CRI.PodSandboxConfig(
            metadata=CRI.PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="test"),
            hostname="" if host_network else name,
            log_directory=str(self.logs),
            linux=CRI.LinuxPodSandboxConfig(
                cgroup_parent=cgroup_parent,
                security_context=CRI.LinuxSandboxSecurityContext(namespace_options=self._namespaces),
            ),
        )
        request = CRI.RunPodSandboxRequest(config=self.config, runtime_handler=handler)
        self.id = daemon.call("RunPodSandbox", request).pod_sandbox_id

    def create(self, name: str, *command: str, limits: Any = None, **fields: bool) -> str:
        """The id of a new container, which is not started; ``fields`` are stdin, stdin_once and tty of its config."""
        config = CRI.ContainerConfig(
            metadata=CRI.ContainerMetadata(name=name),
            image=CRI.ImageSpec(image=images.BUSYBOX),
            command=command,
            log_path=f"{name}.log",
            linux=CRI.LinuxContainerConfig(
                resources=limits,
                security_context=CRI.LinuxContainerSecurityContext(namespace_options=self._namespaces),
            ),
            **fields,
        )
        request = CRI.CreateContainerRequest(
            pod_sandbox_id=self.id, config=config, sandbox_config=self.config
        )
        return self._daemon.call("CreateContainer", request).container_id

    def start(self, name: str, *command: str, **options: Any) -> str:
        """The id of a new container, which runs; ``options`` are those of ``create``."""
        container = self.create(name, *command, **options)
        self._daemon.call("StartContainer", CRI.ContainerRequest(container_id=container))
        return container

    def container(self, container: str) -> Any:
        """The status of a container."""
        return self._daemon.call("ContainerStatus", CRI.ContainerRequest(container_id=container)).status

    def wait(self, container: str) -> int:
        """The exit code of a container, once it has ended."""
        bed.until(
            lambda: self.container(container).state == CRI.CONTAINER_EXITED, f"{container} does not end"
        )
        return self.container(container).exit_code

    def exec(self, container: str, *command: str, timeout_s: int = 0) -> tuple[str, str, int]:
        """stdout, stderr and exit code of a command in a container; raises grpc.RpcError when it takes longer."""
        request = CRI.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout_s)
        done = self._daemon.call("ExecSync", request)
        return done.stdout.decode(), done.stderr.decode(), done.exit_code

    def converse(self, container: str, *command: str, tty: bool = False) -> AbstractContextManager[Channels]:
        """A command in a container, and its streams."""
        request = CRI.ExecRequest(
            container_id=container, cmd=command, tty=tty, stdin=True, stdout=True, stderr=not tty
        )
        return self._channels("Exec", request)

    def attach(self, container: str, *, tty: bool = False) -> AbstractContextManager[Channels]:
        """The streams of a container."""
        request = CRI.AttachRequest(container_id=container, stdin=True, tty=tty, stdout=True, stderr=not tty)
        return self._channels("Attach", request)

    def forward(self, port: int) -> AbstractContextManager[Channels]:
        """A connection to a port of the pod: channel 0 has its data, channel 1 what went wrong."""
        request = CRI.PortForwardRequest(pod_sandbox_id=self.id, port=[port])
        return self._channels("PortForward", request, f"?port={port}")

    def _channels(self, method: str, request: Any, query: str = "") -> AbstractContextManager[Channels]:
        return opened(self._daemon.call(method, request).url + query, self._daemon.network)

    def update(self, container: str, limits: Any) -> None:
        """Those limits hold."""
        request = CRI.UpdateContainerResourcesRequest(container_id=container, linux=limits)
        self._daemon.call("UpdateContainerResources", request)

    def stats(self, container: str) -> Any:
        """What a container uses."""
        return self._daemon.call("ContainerStats", CRI.ContainerRequest(container_id=container)).stats

    def all_stats(self) -> Any:
        """What the pod uses, and each of its containers."""
        return self._daemon.call("PodSandboxStats", CRI.PodSandboxRequest(pod_sandbox_id=self.id)).stats

    def log(self, name: str) -> list[str]:
        """The lines of a container's log, without times and tags."""
        return [line.split(" ", 3)[3] for line in (self.logs / f"{name}.log").read_text().splitlines()]

    def stop_container(self, container: str, grace_s: int = 0) -> None:
        """It has ended."""
        request = CRI.StopContainerRequest(container_id=container, timeout=grace_s)
        self._daemon.call("StopContainer", request)

    def remove_container(self, container: str) -> None:
        """It is gone."""
        self._daemon.call("RemoveContainer", CRI.ContainerRequest(container_id=container))

    def status(self) -> Any:
        """The status of the pod."""
        return self._daemon.call("PodSandboxStatus", CRI.PodSandboxRequest(pod_sandbox_id=self.id)).status

    @property
    def pid(self) -> int:
        """The process that is there as long as the pod is ready."""
        request = CRI.PodSandboxRequest(pod_sandbox_id=self.id, verbose=True)
        info = self._daemon.call("PodSandboxStatus", request).info
        return json.loads(info["shim"])["holder"] if "shim" in info else json.loads(info["info"])["pid"]

    def stop(self) -> None:
        """Nothing of it runs any more."""
        self._daemon.call("StopPodSandbox", CRI.PodSandboxRequest(pod_sandbox_id=self.id))

    def remove(self) -> None:
        """It is gone."""
        self._daemon.call("RemovePodSandbox", CRI.PodSandboxRequest(pod_sandbox_id=self.id))


def _network(disk: Path) -> dict[str, object]:
    addresses = {"type": "host-local", "subnet": "10.97.0.0/24", "dataDir": str(disk / "cni")}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": addresses}]}
