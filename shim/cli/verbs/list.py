"""``ocishim list``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.containers.snapshot import Snapshot, look

__all__ = ["command"]

_COLUMNS = ("ID", ">PID", "STATUS", "RUNTIME", "CREATED", "BUNDLE")


@click.command("list")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@options.as_json
@pass_settings
def command(settings: Settings, /, *, quiet: bool, as_json: bool) -> None:
    """List containers."""
    if quiet:
        for container_id in settings.containers.ids():
            output.say(container_id)
        return
    found = [look(container) for container in settings.containers.all()]
    if as_json:
        output.print_json([_member(snapshot) for snapshot in found])
        return
    output.print_table(_COLUMNS, map(_row, found))
    for snapshot in found:
        if snapshot.note:
            output.warn(f"container {snapshot.id}: {snapshot.note}")


def _member(snapshot: Snapshot) -> dict[str, object]:
    return {name: value for name, value in asdict(snapshot).items() if name != "details"}


def _row(snapshot: Snapshot) -> tuple[str, ...]:
    return (
        snapshot.id,
        str(snapshot.pid or "-"),
        snapshot.status_text(),
        Path(snapshot.runtime).name,
        snapshot.created_at[:19].replace("T", " "),
        snapshot.bundle,
    )
