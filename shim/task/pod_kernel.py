"""gVisor's kernel of one pod, which the pod's containers join.

gVisor makes a kernel for the first container of a pod, and ends it with that one. So the first is a container of our own,
with one process that does nothing, below the sandbox's bundle. Its life is nobody's business but the sandbox's: no events
tell of it, and no client can ask for it.

All processes of the pod run in its cgroup. It has the limits that the configuration sets for each container, and no others:
what the pod may use is the pod's cgroup's to say.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shim.errors import NotFound, ShimError, from_os_error
from shim.oci.spec import to_json
from shim.process.pause_program import pause_program
from shim.stdio import Streams
from shim.task.creation import create
from shim.task.request import CreateRequest

if TYPE_CHECKING:
    from pathlib import Path

    from shim.process import Exit
    from shim.task.container import Container
    from shim.task.sandbox_request import SandboxRequest
    from shim.task.workshop import Workshop

__all__ = ["PodKernel"]

_PROGRAM = "pause"


class PodKernel:
    """A running one, until its ``exit`` is known. Made by ``start``; ``remove`` has to be called."""

    def __init__(self, container: Container) -> None:
        self._container = container

    @classmethod
    async def start(cls, shop: Workshop, request: SandboxRequest, directory: Path) -> PodKernel:
        """The kernel of the pod runs, and its containers can join it by the pod's id; its files are in ``directory``.

        Raises:
            NotFound: its network namespace does not exist.
            ShimError: it cannot be made; nothing is left.
        """
        _check_network(request.namespaces.network)
        _lay(directory, _spec(request))
        # To this container the sandbox is nothing that it could be in.
        quiet = replace(shop, publish=lambda _: None, sandboxes={})
        kernel = cls(
            await create(quiet, CreateRequest(request.id, str(directory), Streams(), request.config))
        )
        try:
            await kernel._container.start()
        except BaseException:
            with suppress(ShimError):
                await kernel.remove()
            raise
        return kernel

    @property
    def pid(self) -> int:
        """The process that is gVisor."""
        return self._container.pid

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it has not."""
        return self._container.init.exit

    async def wait(self) -> Exit:
        """How it ended, once it has."""
        return await self._container.wait()

    def kill(self) -> None:
        """It is about to end, with all that runs in it."""
        # The process itself, since a runtime may hang, or refuse because the pod is paused.
        with suppress(NotFound):
            self._container.init.send_signal(signal.SIGKILL)

    async def remove(self) -> None:
        """It has ended, and the runtime has forgotten it.

        Raises:
            ShimError: the runtime could not delete it; it can be tried again.
        """
        self.kill()
        await self.wait()
        with suppress(NotFound):
            await self._container.delete()


def _check_network(path: str) -> None:
    if path and not os.path.exists(path):
        raise NotFound(f"network namespace {path} does not exist")


def _lay(directory: Path, spec: dict[str, Any]) -> None:
    try:
        (directory / "rootfs").mkdir(parents=True, exist_ok=True)
        program = directory / "rootfs" / _PROGRAM
        program.write_bytes(pause_program())
        program.chmod(0o755)
        (directory / "config.json").write_bytes(to_json(spec))
    except OSError as error:
        raise from_os_error(error, f"the bundle of the pod's kernel cannot be made in {directory}") from error


def _spec(request: SandboxRequest) -> dict[str, Any]:
    wanted = request.namespaces
    namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    if wanted.network:
        namespaces.append({"type": "network", "path": wanted.network})
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": [f"/{_PROGRAM}"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": (wanted.hostname if wanted.uts else "") or socket.gethostname(),
        "annotations": request.annotations("sandbox"),
        "linux": {
            "namespaces": namespaces,
            "sysctl": dict(wanted.sysctls),
            "cgroupsPath": _cgroups_path(request.cgroup_parent, request.id),
        },
    }


def _cgroups_path(parent: str, name: str) -> str:
    """Below the pod's, in the form of the driver of cgroups that the parent is written for; as containerd's CRI does."""
    last = parent.rpartition("/")[2]
    if last.endswith(".slice"):
        return f"{last}:cri-containerd:{name}"
    return f"{parent.rstrip('/')}/{name}" if parent else ""
