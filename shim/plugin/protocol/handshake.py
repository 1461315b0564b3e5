"""The handshake: what a plugin finds in its environment, and the one line that it answers with.

The first line of a plugin's standard output is ``CORE|VERSION|NETWORK|ADDRESS|PROTOCOL|CERTIFICATE[|MULTIPLEXED]``. Of the
fields, those from PROTOCOL on came one after the other, so that old plugins leave them out. Values in, values out: who
reads the line, and for how long, is the client's affair.

Source: hashicorp/go-plugin, docs/internals.md, and Client.Start and Serve of the versions 1.0.1 to 1.7.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, InvalidArgument, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["HandshakeConfig", "PluginAddress", "environment", "parse_line"]

CORE_PROTOCOL_VERSION = 1

CLIENT_CERT = "PLUGIN_CLIENT_CERT"
MULTIPLEX_GRPC = "PLUGIN_MULTIPLEX_GRPC"
UNIX_SOCKET_DIR = "PLUGIN_UNIX_SOCKET_DIR"
UNIX_SOCKET_GROUP = "PLUGIN_UNIX_SOCKET_GROUP"

# Ports in which a plugin on a system without unix sockets looks for a free one; go-plugin's own defaults.
_PORTS = {"PLUGIN_MIN_PORT": "10000", "PLUGIN_MAX_PORT": "25000"}

_REBUILD = "the plugin usually only needs to be built anew"

# What is shorter in the field of the certificate was something else in plugins of old.
_LEAST_CERTIFICATE = 50

# strconv.Atoi, base64.RawStdEncoding and strconv.ParseBool
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+", re.ASCII)
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


@dataclass(frozen=True, slots=True)
class HandshakeConfig:
    """What host and plugin agree on before either exists.

    The cookie is no secret: it keeps people from running a plugin by hand. ``protocol_versions`` are those of the plugin's
    own services that the host can use; it gets the highest that the plugin has, too.
    """

    magic_cookie_key: str
    magic_cookie_value: str
    protocol_versions: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        """Raises InvalidArgument for what no environment can hold, and for no version at all."""
        if not self.magic_cookie_key or not self.magic_cookie_value:
            raise InvalidArgument("a plugin's magic cookie needs a key and a value")
        if "=" in self.magic_cookie_key or "\0" in self.magic_cookie_key + self.magic_cookie_value:
            raise InvalidArgument(f"magic cookie {self.magic_cookie_key!r} cannot be in an environment")
        if not self.protocol_versions:
            raise InvalidArgument("a plugin needs one protocol version at least")


@dataclass(frozen=True, slots=True)
class PluginAddress:
    """Where a plugin listens, as it sees it or, once it was translated, as the host does; and what it speaks there.

    ``certificate`` is DER, empty for a plugin without TLS.
    """

    version: int
    network: str
    address: str
    certificate: bytes = b""
    multiplexed: bool = False

    def at(self, network: str, address: str) -> PluginAddress:
        """The same plugin, elsewhere."""
        return replace(self, network=network, address=address)


def environment(
    config: HandshakeConfig,
    socket_dir: str,
    *,
    certificate: str = "",
    group: str = "",
    multiplex: bool = False,
) -> dict[str, str]:
    """The variables that go-plugin wants in a plugin's environment.

    ``certificate`` is the host's in PEM, for mutual TLS. Sockets are made in ``socket_dir``, for ``group`` (a name or number)
    to use if there is one. TMPDIR is that folder, too: plugins with a go-plugin before 1.4 know no other place for a socket.
    """
    variables = {
        config.magic_cookie_key: config.magic_cookie_value,
        "PLUGIN_PROTOCOL_VERSIONS": ",".join(map(str, config.protocol_versions)),
        **_PORTS,
        UNIX_SOCKET_DIR: socket_dir,
        "TMPDIR": socket_dir,
    }
    if group:
        variables[UNIX_SOCKET_GROUP] = group
    if certificate:
        variables[CLIENT_CERT] = certificate
    if multiplex:
        variables[MULTIPLEX_GRPC] = "true"
    return variables


def parse_line(line: str, versions: Collection[int]) -> PluginAddress:
    """What the first line of a plugin's output says; ``versions`` are those that the host can use.

    Raises:
        FailedPrecondition: it is no such line, or one of another version.
        Unimplemented: the plugin speaks Go's net/rpc, which nothing but Go can.
    """
    fields = line.strip().split("|")
    if len(fields) < 4:
        raise FailedPrecondition(f"unrecognized remote plugin message: {line.strip()[:200]!r}")
    core, version, network, address, *rest = fields
    protocol, certificate, multiplexed = (*rest, *("netrpc", "", "")[len(rest) :])[:3]
    if _number(core, "core protocol version") != CORE_PROTOCOL_VERSION:
        raise FailedPrecondition(
            f"incompatible core API version: the plugin's is {core}, the host's {CORE_PROTOCOL_VERSION}; {_REBUILD}"
        )
    number = _number(version, "protocol version")
    if number not in versions:
        known = ", ".join(map(str, sorted(versions)))
        raise FailedPrecondition(f"incompatible API version: the plugin's is {number}, the host's {known}")
    if network not in {"unix", "tcp"} or not address:
        raise FailedPrecondition(f"the plugin listens at {network!r} {address!r}, which is no address")
    if protocol != "grpc":
        raise Unimplemented(
            f"the plugin speaks {protocol!r} and not gRPC; one in Go has to set GRPCServer in what it serves"
        )
    return PluginAddress(number, network, address, _certificate(certificate), _boolean(multiplexed))


def _number(text: str, what: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise FailedPrecondition(f"unrecognized remote plugin message: {what} {text[:200]!r}")
    return int(text)


def _boolean(text: str) -> bool:
    if text and text not in _BOOLEANS:
        raise FailedPrecondition(
            f"unrecognized remote plugin message: {text[:200]!r} for multiplexing is neither true nor false"
        )
    return _BOOLEANS.get(text, False)


def _certificate(text: str) -> bytes:
    if len(text) <= _LEAST_CERTIFICATE:
        return b""
    # base64.RawStdEncoding: nothing is padded. A single letter of a group of four is what no encoder makes.
    if not _BASE64.fullmatch(text) or len(text) % 4 == 1:
        raise FailedPrecondition("unrecognized remote plugin message: the certificate is not in base64")
    return base64.b64decode(text + "=" * (-len(text) % 4))
