"""``ocishim pause``: freeze containers."""

from __future__ import annotations

import click

from shim.cli import options
from shim.cli.each import for_each
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]


@click.command("pause")
@options.containers
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...]) -> None:
    """Freeze every process of containers."""

    def pause(container_id: str) -> None:
        with settings.containers.get(container_id).connect() as task:
            task.pause()

    for_each(container_ids, pause)
