"""``ocishim --host URL wait``: until containers have ended."""

from __future__ import annotations

import click

from shim.cli import options, output
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]


@click.command("wait")
@options.containers
@options.as_json
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...], *, as_json: bool) -> None:
    """Wait until containers of a daemon have ended, and print their exit codes in that order.

    Also of those that are gone, while the events of the daemon tell of them.
    """
    statuses: dict[str, int] = {}
    remaining = list(container_ids)
    with connected(settings) as client:
        for ended in client.ends(container_ids):
            statuses[ended.id] = ended.status
            while remaining and remaining[0] in statuses:
                name = remaining.pop(0)
                if as_json:
                    output.print_json_line({"id": name, "exit_status": statuses[name]})
                else:
                    output.say(str(statuses[name]))
