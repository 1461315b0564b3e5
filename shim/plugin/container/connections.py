"""What connects a plugin to its networks: an interface and an address in each, and the default routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shim.net import Route
from shim.net.route import parse_destination
from shim.plugin.container.networks import NamedNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.net import InterfaceConfig
    from shim.plugin.container.addresses import Addresses
    from shim.plugin.container.config import EndpointSettings

__all__ = ["connections"]


def connections(
    endpoints: Mapping[str, EndpointSettings], tables: Mapping[str, Any], addresses: Addresses, owner: str
) -> tuple[tuple[InterfaceConfig, ...], tuple[Route, ...]]:
    """The interfaces and routes of ``owner`` in the networks of ``endpoints``: eth0, eth1, … in the order of their names.

    The default route of each IP version is through the first network that has a gateway. The addresses are ``owner``'s.

    Raises:
        NotFound: there is no such network.
        InvalidArgument: it, or what is wanted of it, can never work.
        ShimError: as ``Addresses.take``; what was taken before stays ``owner``'s.
    """
    networks = [NamedNetwork.of(name, tables) for name in sorted(endpoints)]
    interfaces: list[InterfaceConfig] = []
    routes: dict[int, Route] = {}
    for number, network in enumerate(networks):
        settings = endpoints[network.name]
        device = f"eth{number}"
        # Checked before anything is taken.
        network.interface(device, None, settings.mac_address)
        host = addresses.take(network, owner, settings.ip_address)
        interfaces.append(network.interface(device, host, settings.mac_address))
        if (router := network.router) is not None:
            everywhere = parse_destination("default", router.version)
            routes.setdefault(router.version, Route(everywhere, router, device))
    return tuple(interfaces), tuple(routes.values())
