"""``ocishim stop``: end containers, politely at first."""

from __future__ import annotations

from contextlib import ExitStack

import click

from shim.cli import options
from shim.cli.settings import Settings, pass_settings
from shim.containers import removal

__all__ = ["command"]


@click.command("stop")
@options.containers
@options.stop_timeout
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...], *, timeout: float) -> None:
    """End containers: SIGTERM to all of them, then SIGKILL to those that go on. One that has ended is no error."""
    with ExitStack() as stack:
        tasks = [stack.enter_context(each.connect()) for each in settings.containers.choose(container_ids)]
        removal.stop(tasks, timeout)
