"""``ocishim delete``."""

from __future__ import annotations

import click

from shim.cli import options
from shim.cli.each import for_each
from shim.cli.settings import Settings, pass_settings
from shim.containers import removal

__all__ = ["command"]


@click.command("delete")
@options.containers
@click.option("-f", "--force", is_flag=True, help="Kill what runs; do without a shim that is gone or hangs.")
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...], *, force: bool) -> None:
    """Remove containers that have ended, with everything that ocishim made for them."""
    containers = settings.containers
    for_each(container_ids, lambda name: removal.remove(containers.get(name), force=force))
