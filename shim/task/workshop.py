"""What all containers of one shim share: the tools, made once.

One value is passed down instead of five parameters through every constructor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from shim.cgroup.migration import Migration
from shim.stdio import Copier
from shim.task.sandbox_request import SANDBOX_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shim.cgroup.events import OomWatcher
    from shim.cgroup.hierarchy import Hierarchy
    from shim.config import Config
    from shim.process import Reaper
    from shim.runtime import Driver
    from shim.task.events import Event
    from shim.task.request import CreateRequest

__all__ = ["Pod", "Workshop"]


class Pod(Protocol):
    """A sandbox, as those see it who make a container in it."""

    def configured(self, request: CreateRequest) -> CreateRequest:
        """``request`` with what is the pod's to say."""

    def laid_into(self, raw: Mapping[str, Any], driver: Driver) -> dict[str, Any]:
        """The config.json ``raw`` with what the pod shares; raises a ShimError where ``driver`` cannot run in it."""


@dataclass(slots=True)
class Workshop:
    """Owned by the shim process; ``close`` ends the relay and the OOM watch."""

    namespace: str
    config: Config
    reaper: Reaper
    hierarchy: Hierarchy
    oom: OomWatcher
    publish: Callable[[Event], None] = lambda _: None
    """Takes each event, at once and in order; must not raise."""
    copier: Copier = field(default_factory=Copier)
    sandboxes: Mapping[str, Pod] = field(default_factory=dict)
    """By their ids, for the containers that are made in them."""
    migration: Migration = field(init=False)

    def __post_init__(self) -> None:
        self.migration = Migration(self.hierarchy)

    def sandbox_of(self, annotations: Mapping[str, str]) -> Pod | None:
        """The sandbox that a container with these annotations belongs to, if it is one of ours."""
        return self.sandboxes.get(annotations.get(SANDBOX_ANNOTATION, ""))

    def close(self) -> None:
        """End what runs on its own."""
        self.copier.close()
        self.oom.close()
