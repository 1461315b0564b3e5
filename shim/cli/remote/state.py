"""``ocishim --host URL state``: everything that a daemon says about one container."""

from __future__ import annotations

import click

from shim.cli import options, output
from shim.cli.remote.connection import connected, container_of
from shim.cli.remote.messages import as_data
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]


@click.command("state")
@options.container
@options.as_json
@pass_settings
def command(settings: Settings, /, container_id: str, *, as_json: bool) -> None:
    """Show all that a daemon says about one container."""
    with connected(settings) as client:
        container = container_of(client, container_id)
    if as_json:
        output.print_json(as_data(container))
        return
    output.print_pairs({"id": container.id, "status": container.status, "bundle": container.bundlePath})
    output.print_table(
        (">PID", "USER", "CWD", "COMMAND"),
        (
            (str(p.pid), f"{p.user.uid}:{p.user.gid}", p.cwd, " ".join(" ".join(p.args).split()))
            for p in container.processes
        ),
    )
