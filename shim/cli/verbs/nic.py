"""``ocishim nic``: the network interfaces of a container, while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from shim.cli import options, output
from shim.cli.network import within
from shim.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from shim.net import Interface

__all__ = ["command"]

_KINDS = ("veth", "macvlan", "ipvlan", "vlan", "tap", "dummy", "physical")


@click.group("nic")
def command() -> None:
    """Add, remove and list network interfaces of a container or a sandbox while it runs."""


@command.command("add")
@options.container
@click.argument("name", cls=options.Argument, metavar="NAME")
@click.option(
    "--kind", type=click.Choice(_KINDS), default="veth", show_default=True, help="What kind of interface."
)
@click.option(
    "--address", "addresses", metavar="ADDR/N", multiple=True, help="IPv4 or IPv6; any number of them."
)
@click.option("--mac", default="", metavar="MAC", help="Its hardware address.")
@click.option("--mtu", type=int, default=0, metavar="BYTES", help="Its greatest packet.")
@click.option(
    "--bridge", default="", metavar="DEV", help="veth: the bridge of the host that it is a port of."
)
@click.option(
    "--peer-namespace", default="", metavar="PATH", help="veth: the network namespace of the other end."
)
@click.option("--peer-name", default="", metavar="NAME", help="veth: the name of the other end.")
@click.option("--parent", default="", metavar="DEV", help="macvlan, ipvlan, vlan, physical: of the host.")
@click.option("--vlan", type=int, default=0, metavar="ID", help="vlan: 1 to 4094.")
@click.option("--mode", default="", metavar="MODE", help="macvlan: bridge, private, …; ipvlan: l2, l3, l3s.")
@options.as_json
@pass_settings
def add(
    settings: Settings, /, container_id: str, *, addresses: tuple[str, ...], as_json: bool, **members: Any
) -> None:
    """Give a container the interface NAME.

    \b
      ocishim nic add c1 eth1 --bridge br0 --address 10.1.0.2/24
      ocishim nic add c1 eth1 --kind physical --parent enp3s0

    It is up when this returns. A physical one goes back to the host when it is removed, or when the container ends.
    """  # noqa: D301 - click's mark for lines that stay as they are
    from shim.net import InterfaceConfig, parse_address  # noqa: PLC0415 - pyroute2 costs 0.1 s

    config = InterfaceConfig(addresses=tuple(map(parse_address, addresses)), **members)
    added = within(settings, container_id, lambda namespace: namespace.add_interface(config))
    if as_json:
        output.print_json(added.to_dict())


@command.command("remove")
@options.container
@click.argument("name", cls=options.Argument, metavar="[NAME]", default="")
@click.option("--mac", default="", metavar="MAC", help="The one with this hardware address.")
@pass_settings
def remove(settings: Settings, /, container_id: str, name: str, *, mac: str) -> None:
    """Take an interface from a container; none, if it has no such interface."""
    if not name and not mac:
        raise click.UsageError("give a NAME or a --mac")
    within(settings, container_id, lambda namespace: namespace.remove_interface(name=name, mac=mac))


@command.command("list")
@options.container
@options.as_json
@pass_settings
def list_(settings: Settings, /, container_id: str, *, as_json: bool) -> None:
    """List the interfaces of a container."""
    found = within(settings, container_id, lambda namespace: namespace.interfaces(), change=False)
    if as_json:
        output.print_json([interface.to_dict() for interface in found])
    else:
        output.print_table(("NAME", "KIND", "MAC", ">MTU", "STATE", "ADDRESSES"), map(_row, found))


def _row(interface: Interface) -> tuple[str, ...]:
    addresses = " ".join(map(str, interface.addresses))
    state = "up" if interface.up else "down"
    return interface.name, interface.kind, interface.mac, str(interface.mtu), state, addresses
