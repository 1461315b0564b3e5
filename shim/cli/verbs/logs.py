"""``ocishim logs``: what a container wrote into its log file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shim.cli import options
from shim.cli.log_file import LogOutput
from shim.cli.session import Session
from shim.cli.settings import Settings, pass_settings
from shim.cli.streams import Sink, copy_out
from shim.errors import FailedPrecondition, Unavailable

if TYPE_CHECKING:
    from shim.containers.containers import Container

__all__ = ["command"]


@click.command("logs")
@options.container
@click.option("-f", "--follow", is_flag=True, help="Go on until the container has ended.")
@pass_settings
def command(settings: Settings, /, container_id: str, *, follow: bool) -> None:
    """Print the output of a container that was started with -d or with --log-file, or by create."""
    container = settings.containers.get(container_id)
    path = container.record().log_file
    if not path:
        raise FailedPrecondition(
            f"container {container_id} was started in the foreground, its output is not kept; "
            f"to see it from now on: ocishim attach {container_id}; to keep it: --log-file"
        )
    if not follow or not _follow(container, path):
        copy_out(LogOutput(path, Sink(1)))


def _follow(container: Container, path: str) -> bool:
    """Whether there was a shim to follow the container with; else its log does not grow any more."""
    try:
        task = container.connect()
    except Unavailable:
        return False
    with task:
        Session(container, task, None, terminal=False, log_file=path).run()
    return True
