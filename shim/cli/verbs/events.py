"""``ocishim events``: what happens to the containers of a daemon, one line each, as it happens.

Without --host it is the daemon of our state directory, and its socket's place is that of the configuration.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from shim.client import NumberedEvent

__all__ = ["command"]


@click.command("events")
@click.option(
    "--after",
    metavar="NUMBER",
    type=click.IntRange(min=0),
    help="Begin after this event; 0: with all that are kept.",
)
@click.option("-n", "--count", metavar="COUNT", type=click.IntRange(min=1), help="End after so many.")
@options.as_json
@pass_settings
def command(settings: Settings, /, *, after: int | None, count: int | None, as_json: bool) -> None:
    """Show what happens to the containers of a daemon, from now on.

    A line has the number of the event, its type, the container, the pid, and of an end the exit status.
    """
    with connected(settings) as client, suppress(KeyboardInterrupt):
        for numbered in itertools.islice(client.events(after=after), count):
            if as_json:
                from shim.cli.remote.messages import as_data  # noqa: PLC0415 - start-up time

                output.print_json_line({"number": numbered.number, **as_data(numbered.event)})
            else:
                output.say(_line(numbered))


def _line(numbered: NumberedEvent) -> str:
    event = numbered.event
    words = [str(numbered.number), event.type, event.id, str(event.pid or "-")]
    if event.type == "exit":
        words.append(str(event.status))
    elif event.checkpoint.name:
        words.append(event.checkpoint.name)
    return " ".join(words)
