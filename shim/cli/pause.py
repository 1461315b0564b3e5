"""``ocishim pause``: freeze containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shim.cli import options
from shim.cli.each import for_each
from shim.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from shim.containers.containers import Container

__all__ = ["command"]


@click.command("pause")
@options.containers
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...]) -> None:
    """Freeze every process of containers."""
    for_each(settings.containers, container_ids, _pause)


def _pause(container: Container) -> None:
    with container.connect() as task:
        task.pause()
