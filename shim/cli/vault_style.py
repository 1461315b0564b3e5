"""What the verbs of the catalog share with Vault's command line: how options may be spelt, and how answers look.

Vault's program takes Go's flags: one dash or two, ``_`` where we have ``-``, and a value for what is true or false. People
have them in scripts, and in their fingers, so commands of ``VaultCommand`` take them, too.

Source: the package flag of Go; vault/command/format.go; columnize.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from shim.cli import options, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shim.catalog import Catalog, Tokens
    from shim.cli.settings import Settings

__all__ = [
    "VaultCommand",
    "catalog",
    "field_option",
    "format_option",
    "print_answer",
    "print_columns",
    "tokens",
]

_FLAG = re.compile(r"--?([a-z0-9][a-z0-9_-]+)(?:=(.*))?", re.ASCII | re.DOTALL)
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")
_GAP = "    "


class VaultCommand(click.Command):
    """A command whose options may be written as Vault's: ``-oci_runtime=runc`` for ``--oci-runtime runc``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The same as if they had been written as ours."""
        options = {name: p for p in self.get_params(ctx) if isinstance(p, click.Option) for name in p.opts}
        ours, rest = [], args
        while rest and rest[0] != "--":
            word, *rest = rest
            match = _FLAG.fullmatch(word)
            name = f"--{match[1].replace('_', '-')}" if match else ""
            if match is None or name not in options:
                ours.append(word)
            elif options[name].is_flag:
                ours += _flag(name, match[2])
            elif match[2] is not None:
                ours.append(f"{name}={match[2]}")
            else:
                ours += [name, *rest[:1]]  # its value, whatever that looks like
                rest = rest[1:]
        return super().parse_args(ctx, ours + rest)


def _flag(name: str, value: str | None) -> list[str]:
    if value is None:
        return [name]
    if value.lower() in _TRUE + _FALSE:
        return [name] if value.lower() in _TRUE else []
    return [f"{name}={value}"]


def catalog(settings: Settings) -> Catalog:
    """The catalog of the configuration."""
    from shim.catalog import Catalog  # noqa: PLC0415 - start-up time

    return Catalog(settings.config.storage, settings.config.data_root)


def tokens(settings: Settings) -> Tokens:
    """The tokens of the configuration."""
    from shim.catalog import Tokens  # noqa: PLC0415 - start-up time

    return Tokens(settings.config.storage, settings.config.data_root)


def format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with ``--json``, and with Vault's ``-format=json``, as the argument ``as_json``."""

    def chosen(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value == "json":
            ctx.meta[_FORMAT] = True

    other = click.option(
        "--format", type=click.Choice(["table", "json"]), expose_value=False, hidden=True, callback=chosen
    )
    return other(options.as_json(function))


_FORMAT = f"{__name__}.json"

field_option = click.option("--field", metavar="NAME", default="", help="Print the value of this one only.")


def in_json(as_json: bool) -> bool:  # noqa: FBT001 - what the option of that name said
    """Whether JSON is asked for, in either way."""
    return as_json or click.get_current_context().meta.get(_FORMAT, False)


def print_answer(data: Mapping[str, Any], *, as_json: bool, field: str = "") -> None:
    """What there is to tell of one thing: as a table, as JSON, or one value of it.

    Raises:
        UsageError: there is no such value.
    """
    if field:
        if field not in data:
            raise click.UsageError(f"there is no field {field!r}; there are {', '.join(sorted(data))}")
        value = data[field]
        output.say(value if isinstance(value, str) else _json(value))
    elif in_json(as_json):
        output.print_json(dict(data))
    else:
        print_columns(("Key", "Value"), ((key, _cell(value)) for key, value in data.items()))


def print_columns(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table as Vault prints it: names, dashes below them, and what is empty as ``n/a``."""
    cells = [
        [*names],
        ["-" * len(name) for name in names],
        *([cell or "n/a" for cell in row] for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        output.say(_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f"[{' '.join(map(str, value))}]"
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value)
