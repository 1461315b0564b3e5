"""``ocishim features``: what an OCI runtime says it can do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from shim.cli import options, output
from shim.cli.catalog_runtime import for_container
from shim.cli.settings import Settings, pass_settings
from shim.containers.task_client import NAMESPACE
from shim.process import Reaper
from shim.runtime import driver_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.config import Config

__all__ = ["command"]

_SHORT = 8


@click.command("features")
@options.runtime
@options.as_json
@pass_settings
def command(settings: Settings, /, *, runtime: str | None, as_json: bool) -> None:
    """Show what an OCI runtime can do."""
    config = settings.config if runtime is None else replace(settings.config, runtime=runtime)
    found = asyncio.run(_features(for_container(config)))
    if as_json:
        output.print_json(found)
    else:
        output.print_pairs(dict(_flat(found)))


async def _features(config: Config) -> dict[str, Any]:
    reaper = Reaper()
    reaper.start()
    try:
        driver = await driver_for(config, NAMESPACE, reaper)
        return {"runtime": driver.binary, **await driver.features()}
    finally:
        reaper.stop()


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Members of members as one list; long lists by their length."""
    for name, member in value.items():
        if isinstance(member, dict):
            yield from _flat(member, f"{prefix}{name}.")
        elif isinstance(member, list):
            words = [str(item) for item in member]
            yield prefix + name, ", ".join(words) if len(words) <= _SHORT else f"{len(words)} of them"
        else:
            yield prefix + name, str(member)
