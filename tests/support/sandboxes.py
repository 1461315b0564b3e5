"""A shim process with a sandbox in it, and what a CRI sends for one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from support import bed
from support.shims import Container, MakeBundle, Shim, ShimProcess

from shim.proto.pod_pb2 import CONTAINER, POD, PodSandboxConfig

__all__ = ["NAMESPACES", "Sandboxed", "box", "network", "pod", "sandboxed"]

NAMESPACES = {"ipc": "ipc", "uts": "uts", "network": "net"}
"""Those that the containers of a pod share by default, with their names in /proc."""


def pod(sysctls: dict[str, str] | None = None, parent: str = "", **modes: Any) -> AnyMessage:
    """The options that CRI sends."""
    modes = {"network": POD, "pid": CONTAINER, "ipc": POD, **modes}
    linux = {"security_context": {"namespace_options": modes}, "sysctls": sysctls or {}}
    config = PodSandboxConfig(hostname="podname", linux={**linux, "cgroup_parent": parent})
    config.dns_config.servers.append("192.0.2.53")
    config.dns_config.searches.extend(["a.test", "b.test"])
    return AnyMessage(type_url="runtime.v1.PodSandboxConfig", value=config.SerializeToString())


class Sandboxed(Shim):
    """A shim process with a sandbox ``box`` in it, or for one."""

    def sandbox(self, method: str, **fields: object) -> object:
        return self.call(method, version="sandbox", **{"sandbox_id": "box", **fields})

    def create(self, wanted: AnyMessage | None = None, **fields: object) -> None:
        self.sandbox("CreateSandbox", bundle_path=str(self.process.bundle), options=wanted or pod(), **fields)

    def start(self, *args: object, **fields: object) -> int:
        """The pid of the process that holds the namespaces."""
        self.create(*args, **fields)
        return self.sandbox("StartSandbox").pid

    def state(self) -> str:
        return self.sandbox("SandboxStatus").state

    def member(
        self,
        pid: int,
        args: list[str] = ("sleep", "1000"),  # type: ignore[assignment]
        own: Sequence[dict[str, str]] = ({"type": "pid"},),
        linux: dict[str, Any] | None = None,
        *,
        started: bool = True,
        rootfs: Path | None = None,
        **how: Any,
    ) -> Container:
        """A container in the namespaces of ``pid`` and in these of its ``own``, as CRI makes its config.json."""
        shared = [{"type": kind, "path": f"/proc/{pid}/ns/{name}"} for kind, name in NAMESPACES.items()]
        template = json.loads((bed.CHECKOUT / "bundles" / "readonly" / "config.json").read_text())
        changes = {
            # The pod's files are mounted in /etc, and not in that of the sample root filesystem.
            "mounts": [*template["mounts"], {"destination": "/etc", "type": "tmpfs", "source": "tmpfs"}],
            "annotations": {"io.kubernetes.cri.sandbox-id": "box"},
            "hostname": None,
            "linux": {"namespaces": [{"type": "mount"}, *own, *shared], **(linux or {})},
        }
        if rootfs is not None:
            changes["root"] = {"path": str(rootfs)}
        return (self.running if started else self.container)(args, changes=changes, **how)


@contextmanager
def sandboxed(root: Path, bundle: MakeBundle, folder: Path, **settings: Any) -> Iterator[Sandboxed]:
    """A shim process of the test's own, configured with ``settings``, which has to have ended at its end."""
    process = ShimProcess(root, **settings)
    with Sandboxed(process, bundle, folder) as connection:
        yield connection
        connection.close_streams()
    if not process.ended(0):
        with process.connect() as connection:
            connection.call("ShutdownSandbox", version="sandbox", sandbox_id="box")
    assert process.ended()
    assert process.status == 0
    left = {path.name for path in process.bundle.iterdir()}
    assert left <= {"config.toml", "shim.log", "start-options"}
    for path in root.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.fixture
def box(leaks: None, state_root: Path, bundle: MakeBundle, tmp_path: Path) -> Iterator[Sandboxed]:
    """One whose containers run under the runtime that is the default."""
    with sandboxed(state_root, bundle, tmp_path) as connection:
        yield connection


@pytest.fixture
def network(tmp_path: Path) -> Iterator[str]:
    """The path of a network namespace as CNI leaves it."""
    path = tmp_path / "netns"
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "true"], check=True)
    yield str(path)
    subprocess.run(["umount", path], check=True)
