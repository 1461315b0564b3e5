"""``ocishim --host URL delete``: containers are gone, which the API itself sees to when they have ended."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import click

from shim.cli import options
from shim.cli.each import for_each
from shim.cli.remote.connection import connected, container_of
from shim.cli.settings import Settings, pass_settings
from shim.errors import FailedPrecondition

if TYPE_CHECKING:
    from shim.client import BlockingClient

__all__ = ["command"]

_GONE_S = 15.0
_LOOK_S = 0.1


@click.command("delete")
@options.containers
@click.option("-f", "--force", is_flag=True, help="Kill what runs.")
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...], *, force: bool) -> None:
    """Wait until containers of a daemon that have ended are gone, which they are soon; with --force end them first.

    Containers that were made on the daemon's host, and not by --host, are removed there.
    """
    with connected(settings) as client:
        for_each(container_ids, lambda container_id: _delete(client, container_id, force=force))


def _delete(client: BlockingClient, container_id: str, *, force: bool) -> None:
    status = container_of(client, container_id).status
    if status != "stopped":
        if not force:
            raise FailedPrecondition(
                f"container {container_id} is {status}; to end it: ocishim --host … delete --force {container_id}"
            )
        client.update_container(container_id, signal=signal.SIGKILL)
    deadline = time.monotonic() + _GONE_S
    while any(each.id == container_id for each in client.state().containers):
        if time.monotonic() > deadline:
            raise FailedPrecondition(
                f"container {container_id} has ended, and stays: the daemon removes what was made with --host alone; "
                f"on its host: ocishim delete {container_id}"
            )
        time.sleep(_LOOK_S)
