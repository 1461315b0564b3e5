"""``ocishim create``: all of ``run`` up to the moment before the container's own program runs."""

from __future__ import annotations

import click

from shim.cli import exit_codes, options, output
from shim.cli.launch_options import LaunchOptions, launch_options
from shim.cli.settings import Settings, pass_settings
from shim.cli.signals import Signals
from shim.containers.launch import launched

__all__ = ["command"]


@click.command("create")
@launch_options
@options.as_json
@pass_settings
def command(settings: Settings, /, launch: LaunchOptions, *, as_json: bool) -> None:
    """Make a container of BUNDLE that waits to be started.

    Its output goes to a file, for nobody may be there to read it; see ocishim logs. Prints the id.
    """
    with exit_codes.foreground(), Signals() as signals:
        request = launch.request(settings.config, foreground=False)
        with launched(request, signals.interruptible) as made:
            output.announce(made.record.id, made.pid, as_json=as_json)
