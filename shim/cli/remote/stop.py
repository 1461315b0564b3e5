"""``ocishim --host URL stop``: end containers, politely at first."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from shim.cli import options
from shim.cli.each import for_each
from shim.cli.remote.connection import connected, container_of
from shim.cli.settings import Settings, pass_settings
from shim.errors import DeadlineExceeded, NotFound

if TYPE_CHECKING:
    from shim.client import BlockingClient

__all__ = ["command"]


@click.command("stop")
@options.containers
@options.stop_timeout
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...], *, timeout: float) -> None:
    """End containers of a daemon: SIGTERM to all of them, then SIGKILL to those that go on."""
    with connected(settings) as client:
        told: list[str] = []

        def terminate(container_id: str) -> None:
            _terminate(client, container_id)
            told.append(container_id)

        try:
            for_each(container_ids, terminate)
        finally:
            deadline = time.monotonic() + timeout
            for_each(told, lambda container_id: _await_end(client, container_id, deadline))


def _terminate(client: BlockingClient, container_id: str) -> None:
    status = container_of(client, container_id).status
    if status == "stopped":
        return
    # A program that has not begun has no handler to run; what is frozen cannot run its own.
    number = signal.SIGKILL if status == "created" else signal.SIGTERM
    client.update_container(container_id, signal=number, status="running" if status == "paused" else "")


def _await_end(client: BlockingClient, container_id: str, deadline: float) -> None:
    try:
        client.wait(container_id, timeout_s=max(0.0, deadline - time.monotonic()))
    except DeadlineExceeded:
        with suppress(NotFound):  # it has just gone by itself
            client.update_container(container_id, signal=signal.SIGKILL)
        client.wait(container_id)
