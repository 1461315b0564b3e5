"""Network namespaces from the outside: interfaces and routes, changed while processes use them (pyroute2)."""

from shim.net.interface import Interface, InterfaceConfig, parse_address
from shim.net.namespace import NetworkNamespace
from shim.net.pinned import pin, unpin
from shim.net.route import Route, parse_route

__all__ = [
    "Interface",
    "InterfaceConfig",
    "NetworkNamespace",
    "Route",
    "parse_address",
    "parse_route",
    "pin",
    "unpin",
]
