"""``ocishim attach``: come to a container that runs without us, or that was left with the detach keys."""

from __future__ import annotations

from contextlib import ExitStack

import click

from shim.cli import exit_codes, options
from shim.cli.foreground import End
from shim.cli.session import attached, connect_terminal
from shim.cli.settings import Settings, pass_settings
from shim.cli.signals import Signals

__all__ = ["command"]


@click.command("attach")
@options.container
@options.exec_id
@click.option("--no-stdin", is_flag=True, help="Only look.")
@click.option("--end-stdin", is_flag=True, help="When our stdin ends, so does the container's.")
@options.detach_keys
@pass_settings
def command(
    settings: Settings,
    /,
    container_id: str,
    *,
    exec_id: str,
    no_stdin: bool,
    end_stdin: bool,
    detach_keys: bytes,
) -> int:
    """Connect to the streams of a container.

    Shows what it writes from now on, passes our stdin on if it has one, and ends as the container does.
    """
    with ExitStack() as stack:
        stack.enter_context(exit_codes.foreground())
        container = settings.containers.get(container_id)
        session = stack.enter_context(
            attached(
                container,
                exec_id=exec_id,
                stdin=not no_stdin,
                from_end=True,
                signals=stack.enter_context(Signals()),
                detach_keys=detach_keys,
                end_stdin=end_stdin,
            )
        )
        if session.terminal and not no_stdin:
            connect_terminal(session.task, exec_id)
        outcome = session.run()
        if exec_id and outcome.end is End.EXITED:
            session.forget_exec()
        return session.conclude(outcome)
