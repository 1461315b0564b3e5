"""``ocishim route``: the routes of a container, while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.network import within
from shim.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shim.net import Route

__all__ = ["command"]


@click.group("route")
def command() -> None:
    """List and replace the routes of a container or a sandbox while it runs."""


@command.command("list")
@options.container
@options.as_json
@pass_settings
def list_(settings: Settings, /, container_id: str, *, as_json: bool) -> None:
    """List the routes of a container, of IPv4 and IPv6."""
    _show(within(settings, container_id, lambda namespace: namespace.routes(), change=False), as_json=as_json)


@command.command("update")
@options.container
@click.argument("routes", cls=options.Argument, metavar="[ROUTE...]", nargs=-1)
@options.as_json
@pass_settings
def update(settings: Settings, /, container_id: str, routes: tuple[str, ...], *, as_json: bool) -> None:
    """Give a container these routes and no others, all at once or not at all.

    \b
      ocishim route update c1 'default via 10.1.0.1' '10.2.0.0/16 dev eth1'

    Each is written as for ip-route(8). What the kernel made for the addresses of an interface stays.
    """  # noqa: D301 - click's mark for lines that stay as they are
    from shim.net import parse_route  # noqa: PLC0415 - pyroute2 costs 0.1 s

    wanted = [parse_route(text) for text in routes]
    _show(within(settings, container_id, lambda namespace: namespace.replace_routes(wanted)), as_json=as_json)


def _show(routes: Iterable[Route], *, as_json: bool) -> None:
    found = [route.to_dict() for route in routes]
    if as_json:
        output.print_json(found)
        return
    columns = ("destination", "gateway", "device", "source", "scope", "metric")
    rows = [[str(route.get(column, "")) for column in columns] for route in found]
    output.print_table([name.upper() for name in columns], rows)
