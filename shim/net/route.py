"""A route of the main table: as it is asked for, and as it is found.

Source: ip-route(8); rtnetlink(7); Kata's Route.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import zip_longest
from typing import Any, TypeAlias

from shim.errors import InvalidArgument
from shim.net.interface import validate_name

__all__ = ["Host", "Network", "Route", "parse_destination", "parse_host", "parse_route"]

Network: TypeAlias = IPv4Network | IPv6Network
Host: TypeAlias = IPv4Address | IPv6Address

_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_NUMBERS = {name: number for number, name in _SCOPES.items()}
_WORDS = {"via": "gateway", "dev": "device", "src": "source", "scope": "scope", "metric": "metric"}
# IP6_RT_PRIO_USER: what the kernel makes of a metric of 0 in IPv6.
_IPV6_METRIC = 1024


def parse_host(text: str, what: str) -> Host:
    """An address without a prefix length.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        return ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"{what} {text!r} is no address") from error


def parse_destination(text: str, version: int = 4) -> Network:
    """``10.1.0.0/16``, one address, or ``default`` of IP ``version``.

    Raises:
        InvalidArgument: it is none of these; bits below the prefix are set.
    """
    if text in {"", "default"}:
        return ip_network("::/0" if version == 6 else "0.0.0.0/0")  # everything
    try:
        return ip_network(text)
    except ValueError as error:
        raise InvalidArgument(f"destination {text!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Route:
    """A route to ``destination``, through ``gateway``, out of ``device``, or both.

    Raises:
        InvalidArgument: it can never work.
    """

    destination: Network
    gateway: Host | None = None
    device: str = ""
    source: Host | None = None
    """The address that connections out of this namespace have, if they do not choose."""
    scope: int | None = None
    """rtm_scope, 0 to 255; None: link where there is no gateway, else global. IPv6 has none."""
    metric: int = 0
    """0: the kernel's, which is 1024 in IPv6."""

    def __post_init__(self) -> None:
        version = self.destination.version
        for what, host in (("gateway", self.gateway), ("source", self.source)):
            if host is not None and host.version != version:
                raise InvalidArgument(
                    f"{what} {host} of a route to {self.destination} is of another IP version"
                )
        if self.device:
            validate_name(self.device, "device")
        elif self.gateway is None:
            raise InvalidArgument(f"a route to {self.destination} needs a gateway or a device")
        if not 0 <= self.metric < 1 << 32:
            raise InvalidArgument(f"metric {self.metric}: use 0 to {(1 << 32) - 1}")
        if self.scope is not None and not 0 <= self.scope <= 255:
            raise InvalidArgument(f"scope {self.scope}: use 0 (global) to 255")

    @property
    def effective_scope(self) -> int:
        """What the kernel has for it: in IPv6 always global."""
        if self.destination.version == 6:
            return 0
        return self.scope if self.scope is not None else (0 if self.gateway is not None else 253)

    @property
    def effective_metric(self) -> int:
        """What the kernel has for it."""
        return self.metric or (_IPV6_METRIC if self.destination.version == 6 else 0)

    def same(self, found: Route) -> bool:
        """Whether ``found``, which the kernel told of and which has a device, is this route."""
        return (
            self.destination == found.destination
            and self.gateway == found.gateway
            and self.source == found.source
            and (not self.device or self.device == found.device)
            and self.effective_scope == found.effective_scope
            and self.effective_metric == found.effective_metric
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without what is not said."""
        members = {
            "destination": str(self.destination),
            "gateway": str(self.gateway or ""),
            "device": self.device,
            "source": str(self.source or ""),
            "scope": _SCOPES.get(self.effective_scope, self.effective_scope),
            "metric": self.effective_metric,
        }
        return {name: value for name, value in members.items() if value not in {"", 0}}

    def to_text(self) -> str:
        """All of it, for ``parse_route``."""
        words = [str(self.destination)]
        for word, member in _WORDS.items():
            if (value := getattr(self, member)) not in {None, ""} and (member, value) != ("metric", 0):
                words += [word, str(value)]
        return " ".join(words)

    def __str__(self) -> str:
        words = [str(self.destination) if self.destination.prefixlen else "default"]
        words += ["via", str(self.gateway)] if self.gateway is not None else []
        words += ["dev", self.device] if self.device else []
        return " ".join(words)


def parse_route(text: str) -> Route:
    """A route as ip-route(8) writes it: ``default via 10.0.0.1``, ``10.1.0.0/16 dev eth1 src 10.1.0.2 metric 5``.

    Raises:
        InvalidArgument: it is none.
    """
    destination, *words = text.split() or [""]
    members: dict[str, Any] = {}
    for word, value in zip_longest(words[::2], words[1::2]):
        if word not in _WORDS or value is None or _WORDS[word] in members:
            raise InvalidArgument(
                f"route {text!r}: after the destination come {', '.join(_WORDS)}, each with a value"
            )
        members[_WORDS[word]] = _value(word, value)
    gateway = members.get("gateway")
    version = 4 if gateway is None else gateway.version
    return Route(parse_destination(destination, version), **members)


def _value(word: str, text: str) -> Any:
    if word in {"via", "src"}:
        return parse_host(text, word)
    if word == "dev":
        return text
    number = _NUMBERS.get(text, text) if word == "scope" else text
    try:
        return int(number)
    except ValueError as error:
        raise InvalidArgument(f"{word} {text!r} is no number") from error
