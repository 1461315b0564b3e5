"""``ocishim --host URL kill``: send a signal."""

from __future__ import annotations

import signal

import click

from shim.cli import options
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import SIGNAL

__all__ = ["command"]


@click.command("kill")
@options.container
@click.argument("number", cls=options.Argument, metavar="[SIGNAL]", type=SIGNAL, default=int(signal.SIGTERM))
@click.option("--pid", type=click.IntRange(min=1), help="To this process of the container, not its init.")
@pass_settings
def command(settings: Settings, /, container_id: str, number: int, *, pid: int | None) -> None:
    """Send SIGNAL to the init of a container of a daemon.

    SIGNAL is a number or a name, such as 9, KILL, SIGKILL or RTMIN+1; it is TERM where none is given.
    """
    with connected(settings) as client:
        if pid is None:
            client.update_container(container_id, signal=number)
        else:
            client.signal(container_id, pid, number)
