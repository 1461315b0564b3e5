"""``ocishim --host URL resume``: let paused containers go on."""

from __future__ import annotations

import click

from shim.cli import options
from shim.cli.each import for_each
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]


@click.command("resume")
@options.containers
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...]) -> None:
    """Let paused containers of a daemon go on."""
    with connected(settings) as client:
        for_each(container_ids, lambda container_id: client.update_container(container_id, status="running"))
