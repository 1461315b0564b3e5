"""The table ``[daemon]`` of the configuration: one frozen value, checked as a whole before anything is opened.

Keys are spelt as the fields. What names a place that only its owner may enter, or a server on the network without TLS, is
an error and no warning: both look as if they worked.
"""

from __future__ import annotations

import grp
import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shim.catalog.api import Settings
from shim.config import overlay_fields
from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from shim.config import Config

__all__ = ["AUDIT_STDERR", "DaemonConfig", "parse_address", "private_socket"]

AUDIT_STDERR = "stderr"

_SUN_PATH = 107


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Everything about the daemon that can be set. Times are seconds, sizes bytes."""

    socket: str = ""
    """Where the HTTP API listens, mode 0600; empty: ``daemon.sock`` in ``state_root``."""
    socket_group: str = ""
    """A group, by name or number, whose members may connect to both sockets as well; these must then be given, and lie
    outside of ``state_root``, which only its owner may enter."""
    tcp: str = ""
    """``address:port`` on which the HTTP API listens, too, with TLS only; empty: nowhere."""
    tls_certificate: str = ""
    """PEM file with the server's certificate and its chain."""
    tls_key: str = ""
    """PEM file with its private key."""
    tls_client_ca: str = ""
    """PEM file with the authorities of clients' certificates. If it is given, who has none cannot connect over TCP."""
    grpc: bool = True
    """Whether there is a gRPC API."""
    grpc_socket: str = ""
    """Where it listens, mode 0600; empty: ``grpc.sock`` in ``state_root``."""
    grpc_tcp: str = ""
    """``address:port`` on which it listens, too; only with certificates of clients, since it asks for no token."""
    audit_log: str = ""
    """File to which a line is appended for every request; empty: ``audit.log`` in ``data_root``; ``stderr``."""
    require_request_header: bool = False
    """Refuse requests without ``X-Vault-Request: true``, which no browser can be made to send."""
    max_request_bytes: int = 1 << 18
    """Larger bodies of requests are refused."""
    rate_limit: float = 1000.0
    """Requests per second that one user, or one address, may make for long; 0: any number."""
    rate_burst: int = 2000
    """How many of them may come at once."""
    request_timeout: float = 30.0
    """How long a request may take to arrive, and how long to be answered."""
    max_connections: int = 256
    """Connections to each of the two APIs at one time; further ones are refused. One user has three quarters of them at most, so
    has the network, and one address there half."""
    stop_timeout: float = 10.0
    """How long requests that have begun may take after SIGTERM."""
    open_metrics: bool = False
    """``/metrics`` over TCP asks for no token. Over the unix socket it never does."""

    @classmethod
    def load(cls, table: dict[str, Any], config: Config) -> DaemonConfig:
        """What ``table`` says, with the places that are left to ``config`` filled in.

        Raises:
            InvalidArgument: a key is unknown, or a value cannot be; names both.
        """
        given = overlay_fields(cls(), table, "daemon")
        found = replace(
            given,
            socket=given.socket or f"{config.state_root}/daemon.sock",
            grpc_socket=given.grpc_socket or f"{config.state_root}/grpc.sock",
            audit_log=given.audit_log or f"{config.data_root}/audit.log",
        )
        if found.grpc:
            private_socket(config.state_root)
        _check_numbers(found)
        _check_paths(found)
        _check_group(found, given)
        _check_tls(found)
        return found

    @property
    def group(self) -> int | None:
        """The gid of ``socket_group``, None without one.

        Raises:
            InvalidArgument: there is no such group.
        """
        if not self.socket_group:
            return None
        if self.socket_group.isdecimal():
            return int(self.socket_group)
        try:
            return grp.getgrnam(self.socket_group).gr_gid
        except KeyError:
            raise _wrong("socket_group", self.socket_group, "there is no such group") from None

    @property
    def settings(self) -> Settings:
        """What the HTTP API itself wants to know."""
        return Settings(
            require_request_header=self.require_request_header,
            max_request_bytes=self.max_request_bytes,
            rate_limit=self.rate_limit,
            rate_burst=self.rate_burst,
            request_timeout_s=self.request_timeout,
            open_metrics=self.open_metrics,
        )


def _wrong(key: str, value: object, why: str) -> InvalidArgument:
    return InvalidArgument(f"daemon: {key} = {value!r}: {why}")


def _check_numbers(found: DaemonConfig) -> None:
    for key in ("request_timeout", "stop_timeout", "rate_limit"):
        value = getattr(found, key)
        if not math.isfinite(value) or value < 0 or (value == 0 and key != "rate_limit"):
            raise _wrong(key, value, "must be a positive number")
    for key in ("max_request_bytes", "rate_burst", "max_connections"):
        if getattr(found, key) < 1:
            raise _wrong(key, getattr(found, key), "must be 1 or more")


def _check_paths(found: DaemonConfig) -> None:
    for key in ("socket", "grpc_socket", "tls_certificate", "tls_key", "tls_client_ca", "audit_log"):
        path = getattr(found, key)
        if "\0" in path:
            raise _wrong(key, path, "contains a NUL byte")
        if path and not os.path.isabs(path) and (key, path) != ("audit_log", AUDIT_STDERR):
            raise _wrong(key, path, "must be an absolute path")
    for key in ("socket", "grpc_socket"):
        if (size := len(os.fsencode(getattr(found, key)))) > _SUN_PATH:
            raise _wrong(key, getattr(found, key), f"is {size - _SUN_PATH} bytes too long for a unix socket")
    if found.grpc and os.path.normpath(found.socket) == os.path.normpath(found.grpc_socket):
        raise _wrong("grpc_socket", found.grpc_socket, "is that of the HTTP API already")


def _check_group(found: DaemonConfig, given: DaemonConfig) -> None:
    if found.group is None:
        return
    for key in ("socket", "grpc_socket"):
        if not getattr(given, key) and (key == "socket" or found.grpc):
            raise _wrong(
                "socket_group",
                given.socket_group,
                f"its members cannot enter state_root; give {key} a place outside of it",
            )


def _check_tls(found: DaemonConfig) -> None:
    if bool(found.tls_certificate) != bool(found.tls_key):
        raise _wrong("tls_certificate", found.tls_certificate, "tls_certificate and tls_key go together")
    for key in ("tcp", "grpc_tcp"):
        address = getattr(found, key)
        if not address:
            continue
        parse_address(key, address)
        if not found.tls_certificate:
            raise _wrong(key, address, "over TCP there is TLS only; give tls_certificate and tls_key")
    if found.grpc_tcp and not found.tls_client_ca:
        raise _wrong(
            "grpc_tcp", found.grpc_tcp, "the gRPC API knows clients by certificate; give tls_client_ca"
        )


def private_socket(state_root: str) -> str:
    """Where gRPC itself listens, behind the gate.

    Raises:
        InvalidArgument: ``state_root`` is too long for that.
    """
    path = f"{state_root}/grpc/sock"
    if (size := len(os.fsencode(path))) > _SUN_PATH:
        raise InvalidArgument(
            f"state root {state_root!r} is {size - _SUN_PATH} bytes too long for unix sockets in it"
        )
    return path


def parse_address(key: str, address: str) -> tuple[str, int]:
    """The host and the port of ``address:port`` or ``[address]:port``.

    Raises:
        InvalidArgument: it is none; names ``key``.
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or not port.isascii() or not port.isdecimal() or int(port) > 0xFFFF:
        raise _wrong(key, address, "is no address:port")
    if ":" in bare and bare == host:
        raise _wrong(key, address, "an IPv6 address needs brackets")
    return bare, int(port)
