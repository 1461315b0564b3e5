"""``ocishim stats``: what containers use, once or every second.

A share of CPU needs two looks, so the first table comes half a second after the start. A container that ends, or whose
shim is gone, leaves the table.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.errors import NotFound, ShimError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shim.containers.measurement import Measurement
    from shim.containers.task_client import Task

__all__ = ["command"]

_FIRST_S = 0.5
_EVERY_S = 1.0
_COLUMNS = ("ID", ">CPU", ">MEMORY", ">LIMIT", ">PIDS", ">READ", ">WRITTEN")


@click.command("stats")
@options.containers_or_all
@options.watch
@options.as_json
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...], *, watch: bool, as_json: bool) -> None:
    """Show what containers use; all that run, where none is named.

    CPU is a percentage of one CPU. Memory is without page cache that is not in use.
    With --json every look at a container is one line.
    """
    with ExitStack() as stack:
        tasks = []
        for container in settings.containers.choose(container_ids):
            try:
                tasks.append(stack.enter_context(container.connect()))
            except ShimError:
                if container_ids:
                    raise
        looks = _looks(tasks, strict=bool(container_ids))
        with suppress(KeyboardInterrupt):
            if watch and not as_json and _has_screen():
                _show(looks)
            for rows in looks:
                _print(rows, as_json=as_json)
                if not watch:
                    return


def _looks(tasks: list[Task], *, strict: bool) -> Iterator[list[dict[str, Any]]]:
    """One list of rows after the other, for ever. ``strict``: at the first look each must have something to tell."""
    before = _measure(tasks, strict=strict)
    pause = _FIRST_S
    while True:
        time.sleep(pause)
        now = _measure(tasks, strict=False)
        yield [
            {"id": name, "cpu_percent": round(seen.cpu_percent(before[name]), 2), **asdict(seen)}
            for name, seen in now.items()
            if name in before
        ]
        before, pause = now, _EVERY_S


def _measure(tasks: list[Task], *, strict: bool) -> Mapping[str, Measurement]:
    found = {}
    for task in tasks:
        try:
            found[task.id] = task.stats()
        except NotFound as error:
            if strict:
                raise NotFound(f"container {task.id} uses nothing: {error}") from error
        except ShimError:
            if strict:
                raise
    return found


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if not as_json:
        output.print_table(_COLUMNS, map(_row, rows))
        return
    for row in rows:
        output.print_json_line({name: value for name, value in row.items() if name != "at_ns"})


def _has_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _show(looks: Iterator[list[dict[str, Any]]]) -> None:
    from rich.live import Live  # noqa: PLC0415 - only where there is a screen

    with Live(screen=True, auto_refresh=False) as live:
        for rows in looks:
            live.update(output.build_table(_COLUMNS, map(_row, rows)), refresh=True)


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    limit = row["memory_limit"]
    return (
        row["id"],
        f"{row['cpu_percent']:.1f} %",
        output.size(row["memory_bytes"]),
        "-" if limit is None else output.size(limit),
        str(row["pids"]),
        output.size(row["read_bytes"]),
        output.size(row["written_bytes"]),
    )
