"""What verbs print: tables for people, JSON for programs.

rich takes 100 ms to import, so only a verb that prints a table does. Into a pipe a table is as wide as it needs to
be: nothing is cut that a program may read.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

__all__ = [
    "announce",
    "build_table",
    "print_json",
    "print_json_line",
    "print_pairs",
    "print_table",
    "say",
    "size",
    "warn",
]

_WIDE = 4096
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def print_json(value: Any) -> None:
    """``value`` on stdout, indented."""
    click.echo(json.dumps(value, indent=2))


def print_json_line(value: Any) -> None:
    """``value`` on stdout, in one line, at once."""
    click.echo(json.dumps(value))


def build_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines; columns whose name begins with ``>`` are aligned to the right."""
    from rich.markup import escape  # noqa: PLC0415 - see above
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout."""
    from rich.console import Console  # noqa: PLC0415 - see above

    width = None if sys.stdout.isatty() else _WIDE
    console = Console(width=width, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(build_table(columns, rows))
    # rich pads the last column; through click, so that what is not UTF-8 or a closed pipe is handled as elsewhere.
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Names and values on stdout, a line each, the values below each other."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        click.echo(f"{name:{width}}  {value}".rstrip())


def announce(container_id: str, pid: int, *, as_json: bool) -> None:
    """A container that goes on without us, on stdout: its id, or an object with its id and its init's pid."""
    click.echo(json.dumps({"id": container_id, "pid": pid}) if as_json else container_id)


def say(text: str) -> None:
    """One line on stdout."""
    click.echo(text)


def warn(text: str) -> None:
    """One line on stderr, beginning with our name."""
    click.echo(f"ocishim: {text}", err=True)


def size(number: int) -> str:
    """Bytes for people: ``4.0 MiB``."""
    value, power = float(number), 0
    while value >= 1024 and power < len(_UNITS) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.1f} {_UNITS[power]}" if power else f"{number} B"
