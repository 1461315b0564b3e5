"""What is known of a sandbox and its containers at one moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shim.sandbox.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ContainerStatus", "Failure", "Process", "SandboxStatus", "container_status"]

_STATES = {
    "created": State.READY,
    "running": State.RUNNING,
    "pausing": State.PAUSED,
    "paused": State.PAUSED,
    "stopped": State.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Process:
    """One process in a container. ``token`` names it in all calls; that of the init is the container's id."""

    token: str
    pid: int
    """On this host."""
    started_at: str
    """RFC 3339, UTC."""


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """A container."""

    id: str
    state: State
    pid: int
    """Of its init, on this host; 0 when it has ended."""
    created_at: str
    started_at: str
    """Empty before the start."""
    exit_status: int | None
    """None while it has not ended."""
    oom_killed: bool
    execs: tuple[str, ...]
    """Tokens of what ``enter_container`` started and nobody has deleted."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """A sandbox."""

    id: str
    state: State
    runtime: str
    pid: int
    """The process that holds its namespaces; 0 where there is none any more."""
    netns: str
    """The file of its network namespace; empty where its network is the host's."""
    containers: tuple[ContainerStatus, ...]
    annotations: Mapping[str, str]
    note: str = ""
    """What is out of the ordinary."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Failure:
    """What ``monitor`` tells of."""

    kind: str
    """``shim`` (it is gone), ``sandbox`` (the process that holds its namespaces has ended), ``exit`` or ``oom`` (a
    container's init has ended, or was killed for want of memory)."""
    text: str
    """One line."""
    container: str = ""
    exit_status: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def container_status(about: Mapping[str, Any]) -> ContainerStatus:
    """What the shim says of a container."""
    ended = about["exit_status"] is not None
    return ContainerStatus(
        id=about["id"],
        state=_STATES[about["status"]],
        pid=0 if ended else about["pid"],
        created_at=about["created_at"] or "",
        started_at=about["started_at"] or "",
        exit_status=about["exit_status"],
        oom_killed=about["oom_killed"],
        execs=tuple(each["id"] for each in about["execs"]),
    )
