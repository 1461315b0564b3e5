"""``ocishim exec``: one more process in a running container."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import click

from shim.cli import exit_codes, options, output
from shim.cli.foreground import End
from shim.cli.session import Session, connect_terminal, exec_directory
from shim.cli.settings import Settings, pass_settings
from shim.cli.signals import Signals
from shim.cli.values import ENV, Value
from shim.containers import bundle
from shim.containers.fifos import Fifos
from shim.containers.task_client import Streams, Task
from shim.errors import ShimError
from shim.oci import process as oci_process

if TYPE_CHECKING:
    from shim.containers.containers import Container

__all__ = ["command"]

_USER = Value("user", oci_process.parse_user)

# So many detached execs that have ended are remembered for `ocishim wait --exec`; nobody else asks to forget them.
_REMEMBERED = 16


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@options.container
@click.argument("args", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-t", "--terminal", is_flag=True, help="Give it a terminal; implies -i.")
@click.option("-i", "--interactive", is_flag=True, help="Pass our stdin on; without, its stdin is empty.")
@click.option(
    "-d", "--detach", is_flag=True, help="Print the exec's id and do not wait; its output is dropped."
)
@click.option("-u", "--user", metavar="UID[:GID]", type=_USER, help="Who it runs as; numbers.")
@click.option("-w", "--cwd", metavar="DIR", help="Where it runs, in the container.")
@click.option(
    "-e", "--env", metavar="NAME[=VALUE]", type=ENV, multiple=True, help="A variable to set, or to pass on."
)
@options.detach_keys
@options.as_json
@pass_settings
def command(
    settings: Settings,
    /,
    container_id: str,
    args: tuple[str, ...],
    *,
    terminal: bool,
    interactive: bool,
    detach: bool,
    detach_keys: bytes,
    as_json: bool,
    **changes: Any,
) -> int:
    """Run CMD in a running container, beside its init and with the same environment."""
    if detach and interactive:
        raise click.UsageError("with -d nobody is there to pass a stdin on, leave out -i")
    with ExitStack() as stack:
        stack.enter_context(exit_codes.foreground())
        container = settings.containers.get(container_id)
        task = stack.enter_context(container.connect())
        process = oci_process.derive(
            bundle.read(container.directory).process, args, terminal=terminal, **changes
        )
        exec_id = f"exec-{os.urandom(4).hex()}"
        if detach:
            _forget_ended(container, task)
            pid = _start_detached(task, exec_id, process)
            output.announce(exec_id, pid, as_json=as_json)
            return 0
        session = Session(
            container,
            task,
            None,
            terminal=terminal,
            exec_id=exec_id,
            detach_keys=detach_keys,
            finish=lambda: task.begin_delete(exec_id),
            sigpipe=True,
        )
        return _run(session, process, interactive=interactive or terminal)


def _start_detached(task: Task, exec_id: str, process: dict[str, Any]) -> int:
    task.exec(exec_id, process, Streams(), terminal=process["terminal"])
    try:
        return task.start(exec_id)
    except ShimError:
        with suppress(ShimError):
            task.delete(exec_id)
        raise


def _forget_ended(container: Container, task: Task) -> None:
    ended = [
        about["id"]
        for about in task.inspect()["execs"]
        if about["status"] == "stopped" and not exec_directory(container, about["id"]).exists()
    ]
    for exec_id in ended[: -_REMEMBERED or None]:
        with suppress(ShimError):
            task.delete(exec_id)


def _run(session: Session, process: dict[str, Any], *, interactive: bool) -> int:
    """The exit code of the exec, of which nothing is left unless the user has detached from it."""
    task, exec_id = session.task, session.exec_id
    names = [*(["stdin"] if interactive else []), "stdout", *([] if session.terminal else ["stderr"])]
    with Signals() as session.signals, ExitStack() as close, ExitStack() as undo:
        fifos = Fifos.make(exec_directory(session.container, exec_id), tuple(names))
        undo.callback(session.forget_exec)
        session.fifos = fifos.open(stdin=interactive)
        close.callback(session.fifos.close)
        streams = Streams(fifos.path("stdin"), fifos.path("stdout"), fifos.path("stderr"))
        task.exec(exec_id, process, streams, terminal=session.terminal)
        if session.terminal:
            connect_terminal(task, exec_id)
        with session.signals.interruptible():
            task.start(exec_id)
        session.fifos.shim_is_connected()
        outcome = session.run()
        if outcome.end is End.DETACHED:
            undo.pop_all()
        return session.conclude(outcome)
