"""``ocishim plugin``: the plugins of the catalog, as ``vault plugin`` has them, and what runs one.

They are read and written where they are kept, with a daemon or without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.late_group import LateGroup
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import ENV
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
    from shim.catalog import Plugin

__all__ = ["command"]

_TYPES = click.Choice(["auth", "database", "secret"])
_TYPE = click.argument("kind", cls=options.Argument, metavar="TYPE", type=_TYPES)
_NAME = click.argument("name", cls=options.Argument, metavar="NAME")
_VERSION = click.option(
    "--version", default="", metavar="VERSION", help="A semantic version. [default: the one without]"
)
_LATE = {"run": "plugin_run"}


@click.group("plugin", cls=LateGroup, late=_LATE)
def command() -> None:
    """Register, list, remove and run plugins of the catalog.

    TYPE is auth, database or secret.
    """


@command.command("register", cls=VaultCommand)
@_TYPE
@_NAME
@click.option("--sha256", required=True, metavar="HEX", help="The digest of the image, or of the program.")
@_VERSION
@click.option(
    "--oci-image", default="", metavar="IMAGE", help="Its image, without a tag: that is the version."
)
@click.option(
    "--runtime", default="", metavar="NAME", help="A registered runtime. [default, when run: runsc]"
)
@click.option(
    "--command", "program", default="", metavar="PROGRAM", help="In place of the image's entrypoint."
)
@click.option("--args", multiple=True, metavar="ARG", help="An argument; any number of them.")
@click.option(
    "--env", type=ENV, multiple=True, metavar="NAME[=VALUE]", help="A variable; any number of them."
)
@pass_settings
def register(settings: Settings, /, kind: str, name: str, *, program: str, **members: object) -> None:
    """Register the plugin NAME, in place of one that has the type, name and version.

    Its runtime must be registered, and cannot be removed as long as the plugin is.

    \b
      ocishim plugin register -sha256=d3f0… -oci_image=vault-plugin -runtime=small secret mine
    """  # noqa: D301 - click's mark for lines that stay as they are
    from shim.catalog import Plugin  # noqa: PLC0415 - start-up time

    given = {key: list(value) if isinstance(value, tuple) else value for key, value in members.items()}
    if not program and not members["oci_image"]:
        program = name
    plugin, _ = Plugin.from_input(kind, name, {**given, "command": program})
    catalog(settings).register_plugin(plugin)
    output.say(f"Success! Registered plugin: {name}")


@command.command("info", cls=VaultCommand)
@_TYPE
@_NAME
@_VERSION
@field_option
@format_option
@pass_settings
def info(settings: Settings, /, kind: str, name: str, *, version: str, field: str, as_json: bool) -> None:
    """Show one plugin of the catalog; of its environment nothing."""
    found = catalog(settings).plugin(kind, name, version)
    data = {"oci_image": "", "runtime": "", **found.to_data()}
    print_answer(dict(sorted(data.items())), as_json=as_json, field=field)


@command.command("list", cls=VaultCommand)
@click.argument("kind", cls=options.Argument, metavar="[TYPE]", type=_TYPES, required=False)
@click.option("--detailed", is_flag=True, help="Also what they are run from.")
@format_option
@pass_settings
def list_(settings: Settings, /, kind: str | None, *, detailed: bool, as_json: bool) -> None:
    """List the plugins of the catalog."""
    found = catalog(settings).plugins(kind or "")
    if in_json(as_json):
        output.print_json([plugin.to_summary() for plugin in found])
        return
    names = ("Name", "Type", "Version", *(("OCI Image", "Runtime", "SHA256") if detailed else ()))
    print_columns(names, (_row(plugin)[: len(names)] for plugin in found))


@command.command("deregister", cls=VaultCommand)
@_TYPE
@_NAME
@_VERSION
@pass_settings
def deregister(settings: Settings, /, kind: str, name: str, *, version: str) -> None:
    """Remove a plugin from the catalog. One that is not there is no error."""
    catalog(settings).delete_plugin(kind, name, version)
    output.say(f"Success! Deregistered plugin (if it was registered): {name}")


def _row(plugin: Plugin) -> tuple[str, ...]:
    return plugin.name, plugin.type, plugin.version, plugin.oci_image, plugin.runtime, plugin.sha256
