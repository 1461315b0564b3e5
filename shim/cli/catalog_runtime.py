"""``--runtime catalog:NAME``: the OCI runtime, parent cgroup and limits that the catalog has under a name.

What the record has goes over the configuration, what the command line or a sandbox's file says goes over the record; so a
record is a default with a name, and no limit for who may start containers anyway.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.cli.values import CATALOG
from shim.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Collection

    from shim.catalog import PluginRuntime
    from shim.config import Config
    from shim.sandbox import SandboxConfig

__all__ = ["for_container", "for_sandbox"]


def for_container(config: Config, given: Collection[str] = ()) -> Config:
    """``config`` with what its runtime means, if that is one of the catalog; the fields ``given`` stay.

    Raises:
        NotFound: the catalog has none of that name.
        FailedPrecondition: it cannot be run by this user.
    """
    members = _members(config.runtime, config)
    return replace(
        config, **{name: value for name, value in members.items() if name not in {*given} - {"runtime"}}
    )


def for_sandbox(sandbox: SandboxConfig, config: Config) -> SandboxConfig:
    """``sandbox`` with what its runtime means, if that is one of the catalog of ``config``; what it says itself stays.

    Raises:
        NotFound: the catalog has none of that name.
        FailedPrecondition: it cannot be run by this user.
    """
    members = _members(sandbox.runtime, config)
    runtime = members.pop("runtime", sandbox.runtime)
    if sandbox.cgroup_parent:
        members.pop("cgroup_parent", None)
    return replace(sandbox, runtime=runtime, options={**members, **sandbox.options})


def _members(runtime: str, config: Config) -> dict[str, Any]:
    """The fields of the configuration that the record has; none of a runtime that is not from the catalog."""
    if not runtime.startswith(CATALOG):
        return {}
    from shim.catalog import Catalog  # noqa: PLC0415 - start-up time

    found = Catalog(config.storage, config.data_root).runtime(runtime.removeprefix(CATALOG))
    if found.rootless:
        _check_rootless(found)
    members = {
        "runtime": found.binary,
        "cgroup_parent": found.cgroup_parent,
        "cpu_nanos": found.cpu_nanos,
        "memory_bytes": found.memory_bytes,
    }
    return {name: value for name, value in members.items() if value}


def _check_rootless(runtime: PluginRuntime) -> None:
    # An OCI runtime has the rights of whoever starts it. Those of a user are had by being one: a root that gave its own up
    # for the runtime would have kept them for the shim, which does all that the runtime does not.
    if os.geteuid() == 0:
        raise FailedPrecondition(
            f"runtime {runtime.name} of the catalog is rootless: run ocishim as a user other than root, with a bundle that "
            "is made for that (ocishim spec --rootless), or register it without -rootless"
        )
    if Path(runtime.binary).name == "runsc":
        raise FailedPrecondition(
            f"runtime {runtime.name} of the catalog is rootless, and runsc, which it names, has no such mode for containers "
            "that are created; register it with -oci_runtime=runc"
        )
