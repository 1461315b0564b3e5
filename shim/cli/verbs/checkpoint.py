"""``ocishim checkpoint``: the state of running containers, kept by the daemon, to go on from it.

Without --host it is the daemon of our state directory. ``run --checkpoint`` with --host goes on from one.
"""

from __future__ import annotations

import click

from shim.cli import options, output
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]

_NAME = click.argument("name", cls=options.Argument, metavar="NAME")


@click.group("checkpoint")
def command() -> None:
    """Keep the state of running containers of a daemon, to go on from it."""


@command.command("create")
@options.container
@_NAME
@click.option("--exit", "exit_", is_flag=True, help="End the container.")
@click.option("--tcp", is_flag=True, help="With its open TCP connections.")
@click.option("--unix-sockets", is_flag=True, help="With its open unix sockets to others.")
@click.option("--shell", is_flag=True, help="It has a terminal of a shell.")
@pass_settings
def create(
    settings: Settings,
    /,
    container_id: str,
    name: str,
    *,
    exit_: bool,
    tcp: bool,
    unix_sockets: bool,
    shell: bool,
) -> None:
    """Keep the state of a container under NAME."""
    with connected(settings) as client:
        from shim.client import Checkpoint  # noqa: PLC0415 - an extra

        made = Checkpoint(name=name, exit=exit_, tcp=tcp, unixSockets=unix_sockets, shell=shell)
        client.create_checkpoint(container_id, made)


@command.command("list")
@options.container
@options.as_json
@pass_settings
def list_(settings: Settings, /, container_id: str, *, as_json: bool) -> None:
    """List the checkpoints of a container, also of one that is gone."""
    with connected(settings) as client:
        found = client.list_checkpoints(container_id)
    if as_json:
        from shim.cli.remote.messages import as_data  # noqa: PLC0415 - start-up time

        output.print_json([as_data(checkpoint) for checkpoint in found])
        return
    columns = ("NAME", "EXIT", "TCP", "UNIX SOCKETS", "SHELL")
    yes = {True: "yes", False: "-"}
    output.print_table(
        columns, ((c.name, yes[c.exit], yes[c.tcp], yes[c.unixSockets], yes[c.shell]) for c in found)
    )


@command.command("delete")
@options.container
@_NAME
@pass_settings
def delete(settings: Settings, /, container_id: str, name: str) -> None:
    """Keep a checkpoint no more."""
    with connected(settings) as client:
        client.delete_checkpoint(container_id, name)
