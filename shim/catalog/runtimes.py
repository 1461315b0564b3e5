"""A runtime of the catalog: by what, below which cgroup and with how much a plugin's container is run.

Source: Vault's /sys/plugins/runtimes/catalog.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shim.catalog.fields import Fields
from shim.catalog.names import validate_name
from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_OCI_RUNTIME", "TYPES", "PluginRuntime", "validate_type"]

TYPES = ("container",)
DEFAULT_OCI_RUNTIME = "runsc"


def validate_type(text: str) -> str:
    """``text``, which is a type of runtimes.

    Raises:
        InvalidArgument: it is none.
    """
    if not text:
        raise InvalidArgument("missing plugin runtime type")
    if text not in TYPES:
        raise InvalidArgument(f'"{text[:256]}" is not a supported plugin runtime type')
    return text


@dataclass(frozen=True, slots=True)
class PluginRuntime:
    """What is registered. What is empty or 0 was not given, and is no limit."""

    name: str
    type: str = "container"
    oci_runtime: str = ""
    cgroup_parent: str = ""
    cpu_nanos: int = 0
    memory_bytes: int = 0
    rootless: bool = False

    @classmethod
    def from_input(cls, name: str, given: Mapping[str, Any]) -> tuple[PluginRuntime, list[str]]:
        """What a client sent, and the names in it that mean nothing. A name and a type in it do not count.

        Raises:
            InvalidArgument: it cannot be registered.
        """
        validate_name(name, "plugin runtime")
        fields = Fields(given)
        fields.ignore("name", "type")
        runtime = cls(
            name=name,
            oci_runtime=fields.text("oci_runtime"),
            cgroup_parent=fields.text("cgroup_parent"),
            # Vault's own clients do not agree on these names.
            cpu_nanos=fields.integer("cpu_nanos", "cpu"),
            memory_bytes=fields.integer("memory_bytes", "memory"),
            rootless=fields.flag("rootless"),
        )
        runtime.check()
        return runtime, fields.unknown()

    def check(self) -> None:
        """It can be registered.

        Raises:
            InvalidArgument: it cannot.
        """
        if self.cpu_nanos < 0:
            raise InvalidArgument("runtime cpu in nanos cannot be negative")
        if self.memory_bytes < 0:
            raise InvalidArgument("runtime memory in bytes cannot be negative")
        if ".." in self.cgroup_parent.split("/"):
            raise InvalidArgument(f"cgroup_parent {self.cgroup_parent!r} must not contain '..'")

    def to_data(self) -> dict[str, Any]:
        """All of it, as a client gets it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> PluginRuntime:
        """What ``to_data`` gave."""
        return cls(**data)

    @property
    def binary(self) -> str:
        """The OCI runtime that is run. The default is not stored: it may change with those who run."""
        return self.oci_runtime or DEFAULT_OCI_RUNTIME
