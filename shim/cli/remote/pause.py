"""``ocishim --host URL pause``: freeze containers."""

from __future__ import annotations

import click

from shim.cli import options
from shim.cli.each import for_each
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]


@click.command("pause")
@options.containers
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...]) -> None:
    """Freeze every process of containers of a daemon."""
    with connected(settings) as client:
        for_each(container_ids, lambda container_id: client.update_container(container_id, status="paused"))
