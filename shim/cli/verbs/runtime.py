"""``ocishim runtime``: the runtimes of the catalog, as ``vault plugin runtime`` has them.

They are read and written where they are kept, with a daemon or without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import RUNTIME
from shim.cli.vault_style import (
    VaultCommand,
    catalog,
    field_option,
    format_option,
    in_json,
    print_answer,
    print_columns,
)

if TYPE_CHECKING:
    from shim.catalog import PluginRuntime

__all__ = ["command"]

_NAME = click.argument("name", cls=options.Argument, metavar="NAME")
_TYPES = click.Choice(["container"])
# There is one. Vault's command line asks for it nevertheless.
_TYPE = click.option(
    "--type", type=_TYPES, default="container", expose_value=False, help="container, as all are."
)
_COLUMNS = ("Name", "Type", "OCI Runtime", "Parent Cgroup", "CPU Nanos", "Memory Bytes")
_NUMBER = click.IntRange(max=2**63 - 1)


@click.group("runtime")
def command() -> None:
    """Register, list and remove runtimes of the catalog.

    A runtime is a name for an OCI runtime with a parent cgroup and limits: ocishim run --runtime catalog:NAME BUNDLE.
    """


@command.command("register", cls=VaultCommand)
@_NAME
@_TYPE
@click.option(
    "--oci-runtime",
    type=RUNTIME,
    default="",
    metavar="NAME|PATH",
    help="The OCI runtime. [default, when run: runsc]",
)
@click.option(
    "--cgroup-parent", default="", metavar="PATH", help="The parent of the cgroup of each container."
)
@click.option(
    "--cpu-nanos", type=_NUMBER, default=0, metavar="N", help="CPU of each container, in billionths of one."
)
@click.option("--memory-bytes", type=_NUMBER, default=0, metavar="N", help="Memory of each container.")
@click.option("--rootless", is_flag=True, help="The OCI runtime runs as a user without privileges.")
@pass_settings
def register(
    settings: Settings,
    /,
    name: str,
    *,
    oci_runtime: str,
    cgroup_parent: str,
    cpu_nanos: int,
    memory_bytes: int,
    rootless: bool,
) -> None:
    """Register the runtime NAME, in place of one that has the name; what is not given is empty then.

    \b
      ocishim runtime register -oci_runtime=runc -cpu_nanos=500000000 small
    """  # noqa: D301 - click's mark for lines that stay as they are
    from shim.catalog import PluginRuntime  # noqa: PLC0415 - start-up time

    runtime, _ = PluginRuntime.from_input(
        name,
        {
            "oci_runtime": oci_runtime,
            "cgroup_parent": cgroup_parent,
            "cpu_nanos": cpu_nanos,
            "memory_bytes": memory_bytes,
            "rootless": rootless,
        },
    )
    catalog(settings).register_runtime(runtime)
    output.say(f"Success! Registered plugin runtime: {name}")


@command.command("info", cls=VaultCommand)
@_NAME
@_TYPE
@field_option
@format_option
@pass_settings
def info(settings: Settings, /, name: str, *, field: str, as_json: bool) -> None:
    """Show one runtime of the catalog."""
    found = catalog(settings).runtime(name)
    print_answer(dict(sorted(found.to_data().items())), as_json=as_json, field=field)


@command.command("list", cls=VaultCommand)
@click.option("--type", "kind", type=_TYPES, help="Only those of this type.")
@format_option
@pass_settings
def list_(settings: Settings, /, *, kind: str | None, as_json: bool) -> None:
    """List the runtimes of the catalog."""
    found = [runtime for runtime in catalog(settings).runtimes() if kind in {None, runtime.type}]
    if in_json(as_json):
        output.print_json([runtime.to_data() for runtime in found])
    else:
        print_columns(_COLUMNS, map(_row, found))


@command.command("deregister", cls=VaultCommand)
@_NAME
@_TYPE
@pass_settings
def deregister(settings: Settings, /, name: str) -> None:
    """Remove a runtime from the catalog; not while a registered plugin names it."""
    catalog(settings).delete_runtime(name)
    output.say(f"Success! Deregistered plugin runtime: {name}")


def _row(runtime: PluginRuntime) -> tuple[str, ...]:
    return (
        runtime.name,
        runtime.type,
        runtime.oci_runtime,
        runtime.cgroup_parent,
        str(runtime.cpu_nanos),
        str(runtime.memory_bytes),
    )
