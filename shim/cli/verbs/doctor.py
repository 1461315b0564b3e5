"""``ocishim doctor``: what will not work on this host, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import click

from shim.cli import checks, exit_codes, options, output
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@options.as_json
@pass_settings
def command(settings: Settings, /, *, as_json: bool) -> int:
    """Check what works on this host: kernel, cgroups, permissions, runtimes.

    A container is run under each runtime that is installed. Ends with 1 if something that is needed does not work;
    warnings are about what only some bundles need.
    """
    found = []
    for check in checks.ALL:
        for each in check(settings.config):
            found.append(each)
            if not as_json:
                _print(each)
    if as_json:
        output.print_json([asdict(each) for each in found])
    return exit_codes.ERROR if any(each.verdict == "fail" for each in found) else 0


def _print(check: checks.Check) -> None:
    # No table: each line comes when its check is done, and the advice needs the width.
    mark = click.style(f"{check.verdict:4}", fg=_COLOURS[check.verdict])
    click.echo(f"{mark}  {check.name:15}  {check.found}")
    if check.advice:
        click.echo(f"{'':4}  {'':15}  -> {check.advice}")
