"""``ocishim --host URL list``."""

from __future__ import annotations

import click

from shim.cli import options, output
from shim.cli.remote.connection import connected
from shim.cli.remote.messages import as_data
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]

_COLUMNS = ("ID", ">PID", "STATUS", ">PROCESSES", "BUNDLE")


@click.command("list")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@options.as_json
@pass_settings
def command(settings: Settings, /, *, quiet: bool, as_json: bool) -> None:
    """List the containers of a daemon."""
    with connected(settings) as client:
        containers = sorted(client.state().containers, key=lambda container: str(container.id))
    if as_json:
        output.print_json([as_data(container) for container in containers])
    elif quiet:
        for container in containers:
            output.say(container.id)
    else:
        output.print_table(
            _COLUMNS,
            (
                (
                    c.id,
                    str(c.processes[0].pid) if c.processes else "-",
                    c.status,
                    str(len(c.processes)),
                    c.bundlePath,
                )
                for c in containers
            ),
        )
