"""``ocishim pause``."""

from __future__ import annotations

import click

from shim.cli import options
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]


@click.command("pause")
@options.containers
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...]) -> None:
    """Freeze every process of containers."""
    for container in settings.containers.choose(container_ids):
        with container.connect() as task:
            task.pause()
