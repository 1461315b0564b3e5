"""What a client wants a sandbox to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from shim.config import Config
from shim.process.holder import Namespaces

__all__ = ["SANDBOX_ANNOTATION", "SandboxRequest"]

SANDBOX_ANNOTATION = "io.kubernetes.cri.sandbox-id"
"""Names the sandbox in the config.json of its containers."""

_TYPE_ANNOTATION = "io.kubernetes.cri.container-type"


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """What CreateSandbox asks for, without the wire's types."""

    id: str
    bundle: str
    namespaces: Namespaces = field(default_factory=Namespaces)
    cgroup_parent: str = ""
    """The cgroup of the pod, whose containers are below it; empty when there is none."""
    resolv_conf: str = ""
    """What its containers have as /etc/resolv.conf; empty: the host's."""
    config: Config = field(default_factory=Config)
    """Of its containers too, where they are asked for without options of their own."""

    def annotations(self, kind: str) -> dict[str, str]:
        """What gVisor tells by whether a container is the ``sandbox`` itself, or a ``container`` in it."""
        return {_TYPE_ANNOTATION: kind, SANDBOX_ANNOTATION: self.id}
