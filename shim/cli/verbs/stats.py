"""``ocishim stats``: what containers use, once or every second.

A share of CPU needs two looks, so the first table comes half a second after the start. A container that ends, or whose
shim is gone, leaves the table.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from shim.cli import options
from shim.cli.looks import EVERY_S, FIRST_S, percent, show, size, text
from shim.cli.settings import Settings, pass_settings
from shim.errors import NotFound, ShimError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from shim.cli.looks import Row
    from shim.containers.measurement import Measurement
    from shim.containers.task_client import Task

__all__ = ["command"]

_COLUMNS = {
    "ID": text("id"),
    ">CPU": percent("cpu_percent"),
    ">MEMORY": size("memory_bytes"),
    ">LIMIT": size("memory_limit"),
    ">PIDS": text("pids"),
    ">READ": size("read_bytes"),
    ">WRITTEN": size("written_bytes"),
}


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
        show(_looks(tasks, strict=bool(container_ids)), _COLUMNS, watch=watch, as_json=as_json)


def _looks(tasks: list[Task], *, strict: bool) -> Generator[list[Row]]:
    """One list of rows after the other, for ever. ``strict``: at the first look each must have something to tell."""
    before = _measure(tasks, strict=strict)
    pause = FIRST_S
    while True:
        time.sleep(pause)
        now = _measure(tasks, strict=False)
        yield [_row(name, before[name], seen) for name, seen in now.items() if name in before]
        before, pause = now, EVERY_S


def _row(name: str, before: Measurement, now: Measurement) -> Row:
    used = asdict(now)
    del used["at_ns"]
    return {"id": name, "cpu_percent": round(now.cpu_percent(before), 2), **used}


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
