"""config.json of a container in a sandbox.

The containers of a sandbox share its network, its name and its System V ipc, and on request its processes; each has
mounts and a cgroup of its own. gVisor makes these of the same document, in its own kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.errors import NotFound, from_os_error
from shim.oci import process as oci_process
from shim.oci import spec as oci
from shim.oci.process import parse_user

if TYPE_CHECKING:
    from shim.sandbox.config import ContainerConfig, SandboxConfig

__all__ = ["Place", "container_spec"]

# What tells the shim, and gVisor, to which sandbox a container belongs: the annotations of Kubernetes' CRI.
_SANDBOX_ID = "io.kubernetes.cri.sandbox-id"
_CONTAINER_TYPE = "io.kubernetes.cri.container-type"

_SHARED = ("ipc", "uts", "network")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sandbox is on this host."""

    pid: int
    """The process that holds its namespaces."""
    netns: str
    """Empty: the host's network."""
    cgroup: str
    """The group above those of its containers."""


def container_spec(config: ContainerConfig, sandbox: SandboxConfig, place: Place) -> dict[str, Any]:
    """The document for the runtime, with absolute paths.

    Raises:
        NotFound: the bundle has no config.json.
        InvalidArgument: that is not valid.
    """
    raw = _given(config)
    raw = oci.with_terminal(raw, terminal=config.terminal)
    if config.resources:
        raw = oci.with_resources(raw, config.resources)
    raw = oci.with_cgroups_path(raw, f"{place.cgroup}/{config.id}")
    for key, value in (
        *config.annotations.items(),
        (_SANDBOX_ID, sandbox.id),
        (_CONTAINER_TYPE, "container"),
    ):
        raw = oci.with_annotation(raw, key, value)
    linux = {**raw["linux"], "namespaces": _namespaces(raw, sandbox, place)}
    # A container without a name of its own cannot be given one.
    return {
        **{key: value for key, value in raw.items() if key not in {"hostname", "domainname"}},
        "linux": linux,
    }


def _given(config: ContainerConfig) -> dict[str, Any]:
    if config.bundle:
        path = Path(config.bundle, "config.json")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"bundle {config.bundle} of container {config.id} has no config.json") from None
        except OSError as error:
            raise from_os_error(error, f"{path} cannot be read") from error
        raw = oci.with_absolute_paths(oci.parse(data, f"config.json of {config.bundle}").raw, config.bundle)
    else:
        raw = oci.default_spec(config.args, config.rootfs, terminal=config.terminal)
        raw["root"]["readonly"] = False
    if config.read_only is not None:
        raw = {**raw, "root": {**raw["root"], "readonly": config.read_only}}
    process = oci_process.derive(
        raw["process"],
        config.args or raw["process"]["args"],
        env=config.env,
        cwd=config.cwd or None,
        user=parse_user(config.user) if config.user else None,
        terminal=config.terminal,
    )
    return {**raw, "process": process, "linux": raw.get("linux") or {}}


def _namespaces(raw: dict[str, Any], sandbox: SandboxConfig, place: Place) -> list[dict[str, str]]:
    paths = {kind: f"/proc/{place.pid}/ns/{kind}" for kind in ("ipc", "uts")}
    if sandbox.share_pids:
        paths["pid"] = f"/proc/{place.pid}/ns/pid"
    if not sandbox.host_network:
        paths["network"] = place.netns
    own = [each["type"] for each in raw["linux"].get("namespaces") or []]
    kept = [kind for kind in own if kind not in {*_SHARED, *paths}]
    needed = [kind for kind in ("mount", "pid") if kind not in {*kept, *paths}]
    return [
        *({"type": kind} for kind in (*kept, *needed)),
        *({"type": kind, "path": path} for kind, path in paths.items()),
    ]
