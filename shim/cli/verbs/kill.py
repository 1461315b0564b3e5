"""``ocishim kill``: send a signal."""

from __future__ import annotations

import signal

import click

from shim.cli import options
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import SIGNAL

__all__ = ["command"]


@click.command("kill")
@options.container
@click.argument("number", cls=options.Argument, metavar="[SIGNAL]", type=SIGNAL, default=int(signal.SIGTERM))
@click.option("-a", "--all", "all_processes", is_flag=True, help="To every process in the container.")
@options.exec_id
@pass_settings
def command(
    settings: Settings, /, container_id: str, number: int, *, all_processes: bool, exec_id: str
) -> None:
    """Send SIGNAL to the init of a container.

    SIGNAL is a number or a name, such as 9, KILL, SIGKILL or RTMIN+1; it is TERM where none is given.
    """
    if all_processes and exec_id:
        raise click.UsageError("--all and --exec exclude each other")
    with settings.containers.get(container_id).connect() as task:
        task.kill(number, exec_id, all_processes=all_processes)
