"""``ocishim resume``."""

from __future__ import annotations

import click

from shim.cli import options
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]


@click.command("resume")
@options.containers
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...]) -> None:
    """Let paused containers go on."""
    for container in settings.containers.choose(container_ids):
        with container.connect() as task:
            task.resume()
