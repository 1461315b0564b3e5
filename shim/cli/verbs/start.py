"""``ocishim start``: run what ``create`` has made."""

from __future__ import annotations

from contextlib import ExitStack

import click

from shim.cli import exit_codes, options
from shim.cli.session import attached, connect_terminal
from shim.cli.settings import Settings, pass_settings
from shim.cli.signals import Signals

__all__ = ["command"]


@click.command("start")
@options.container
@click.option(
    "-a", "--attach", is_flag=True, help="Be in the foreground until it ends, and end with its code."
)
@options.detach_keys
@pass_settings
def command(settings: Settings, /, container_id: str, *, attach: bool, detach_keys: bytes) -> int:
    """Start a container that was created."""
    if not attach:
        with settings.containers.get(container_id).connect() as task:
            task.start()
        return 0
    with ExitStack() as stack:
        stack.enter_context(exit_codes.foreground())
        container = settings.containers.get(container_id)
        signals = stack.enter_context(Signals())
        session = stack.enter_context(attached(container, signals=signals, detach_keys=detach_keys))
        if session.terminal:
            connect_terminal(session.task)
        with signals.interruptible():
            session.task.start()
        return session.conclude(session.run())
