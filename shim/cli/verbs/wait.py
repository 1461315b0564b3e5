"""``ocishim wait``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.containers.snapshot import timestamp
from shim.containers.task_client import Ended
from shim.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from shim.containers.containers import Container
    from shim.containers.task_client import WaitAnswer

__all__ = ["command"]


@click.command("wait")
@options.containers
@options.exec_id
@options.as_json
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...], *, exec_id: str, as_json: bool) -> None:
    """Wait until containers have ended, and print their exit codes in that order."""
    chosen = settings.containers.choose(container_ids)
    with ExitStack() as stack:
        # All at once, before the first answer: with --rm a container is gone soon after its end.
        waits = [_begin(container, exec_id, stack) for container in chosen]
        for container, wait in zip(chosen, waits, strict=True):
            ended = _result(container, exec_id, wait)
            if as_json:
                at = timestamp(ended.exited_at_ns)
                output.print_json_line({"id": container.id, "exit_status": ended.status, "exited_at": at})
            else:
                output.say(str(ended.status))


def _begin(container: Container, exec_id: str, stack: ExitStack) -> WaitAnswer | Ended:
    try:
        return stack.enter_context(container.connect()).begin_wait(exec_id)
    except Unavailable:
        return _from_disk(container, exec_id)


def _result(container: Container, exec_id: str, wait: WaitAnswer | Ended) -> Ended:
    if isinstance(wait, Ended):
        return wait
    try:
        answer = wait.result()
    except (Unavailable, NotFound):
        return _from_disk(container, exec_id)
    return Ended(answer.exit_status, answer.exited_at.ToNanoseconds())


def _from_disk(container: Container, exec_id: str) -> Ended:
    """What the shim wrote down before it was gone. Raises the error that brought us here when that is nothing."""
    record = None if exec_id else container.exit_record()
    if record is None:
        raise  # noqa: PLE0704 - called while the error is handled
    return Ended(record.status, record.exited_at_ns)
