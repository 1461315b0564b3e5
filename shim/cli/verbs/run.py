"""``ocishim run``: make a container of a bundle, start it, and be in the foreground until it ends, or not."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from shim.cli import exit_codes, options, output
from shim.cli.foreground import End
from shim.cli.launch_options import LaunchOptions, launch_options
from shim.cli.session import Session, connect_terminal
from shim.cli.settings import Settings, pass_settings
from shim.cli.signals import Signals
from shim.containers import removal
from shim.containers.launch import launched
from shim.errors import ShimError

if TYPE_CHECKING:
    from shim.containers.launch import Launched

__all__ = ["command"]

_STOP_S = 10.0


@click.command("run")
@launch_options
@click.option("-d", "--detach", is_flag=True, help="Print the id and do not wait; output goes to a file.")
@click.option("--rm", "remove", is_flag=True, help="Delete the container once it has ended.")
@options.detach_keys
@options.as_json
@pass_settings
def command(
    settings: Settings,
    /,
    launch: LaunchOptions,
    *,
    detach: bool,
    remove: bool,
    detach_keys: bytes,
    as_json: bool,
) -> int:
    """Make a container of BUNDLE and run it.

    In the foreground its output is ours, our signals are its signals, and our exit code is its exit code. It stays,
    stopped, until it is deleted; with --rm it does not. Without ID one is made of the bundle's name.

    When whoever reads our output goes away, the container goes on as if detached; with --rm it is stopped.
    """
    with exit_codes.foreground(), Signals() as signals:
        request = launch.request(settings.config, foreground=not detach, auto_remove=remove and detach)
        with launched(request, signals.interruptible) as made:
            if made.record.terminal and not detach:
                connect_terminal(made.task)
            with signals.interruptible():
                made.task.start()
            made.keep()
            if detach:
                output.announce(made.record.id, made.pid, as_json=as_json)
                return 0
            session = Session(
                made.container,
                made.task,
                made.fifos,
                made.record.terminal,
                signals=signals,
                log_file=made.record.log_file,
                detach_keys=detach_keys,
                finish=made.task.begin_delete if remove else None,
            )
            return _run_and_remove(made, session) if remove else session.conclude(session.run())


def _run_and_remove(made: Launched, session: Session) -> int:
    try:
        outcome = session.run()
    except ShimError:
        with suppress(ShimError):
            removal.remove(made.container, force=True)
        raise
    if outcome.end is End.DETACHED:
        code = session.conclude(outcome)
        output.warn(f"it is not removed at its end any more; to do that: ocishim delete {made.record.id}")
        return code
    if outcome.end is End.UNREAD:
        removal.stop([made.task], _STOP_S)
    else:
        session.warn_about_end()
    removal.remove(made.container, force=False)
    return exit_codes.PIPE_CLOSED if outcome.end is End.UNREAD else outcome.status
