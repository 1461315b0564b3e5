"""Looks at what containers use, one after the other, as ``stats`` shows them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from typing import Any, TypeAlias

from shim.cli import output

__all__ = ["EVERY_S", "FIRST_S", "Column", "Row", "percent", "show", "size", "text"]

Row: TypeAlias = Mapping[str, Any]
"""What one container uses."""
Column: TypeAlias = Callable[[Row], str]
"""What stands in one column of the table."""

FIRST_S = 0.5
"""Until there is something to show: a share of CPU needs two measurements."""
EVERY_S = 1.0


def text(name: str) -> Column:
    """A word or a number."""
    return lambda row: str(row[name])


def percent(name: str) -> Column:
    """A share."""
    return lambda row: f"{row[name]:.1f} %"


def size(name: str) -> Column:
    """A number of bytes; None is none."""
    return lambda row: "-" if row[name] is None else output.size(row[name])


def show(looks: Generator[list[Row]], columns: Mapping[str, Column], *, watch: bool, as_json: bool) -> None:
    """The first look is printed, with ``watch`` all of them until Ctrl-C, on a screen of their own where there is one.

    ``looks`` is closed then.
    """
    with closing(looks), suppress(KeyboardInterrupt):
        if watch and not as_json and _has_screen():
            _show_on_screen(looks, columns)
        for rows in looks:
            if as_json:
                for row in rows:
                    output.print_json_line(row)
            else:
                output.print_table(list(columns), _cells(rows, columns))
            if not watch:
                return


def _has_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _show_on_screen(looks: Generator[list[Row]], columns: Mapping[str, Column]) -> None:
    from rich.live import Live  # noqa: PLC0415 - only where there is a screen

    with Live(screen=True, auto_refresh=False) as live:
        for rows in looks:
            live.update(output.build_table(list(columns), _cells(rows, columns)), refresh=True)


def _cells(rows: list[Row], columns: Mapping[str, Column]) -> list[list[str]]:
    return [[cell(row) for cell in columns.values()] for row in rows]
