"""Where a daemon is: ``unix:///path``, or ``tcp://host:port`` with certificates.

Over TCP there is TLS only, with a certificate of the client, too: the API asks for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc

from shim.errors import InvalidArgument

__all__ = ["Target", "TlsFiles"]

_MAX_ANSWER: Final = 64 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_ANSWER),
    # A daemon that comes back is found again soon; otherwise it takes up to two minutes. What grpc calls min_reconnect_backoff
    # stays at its 20 s: that is how long an attempt may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Not through a proxy of the environment: what is asked for is on this host, or has a certificate of its own.
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files."""

    ca: str
    """The authority of the server's certificate."""
    certificate: str
    """Ours, with its chain."""
    key: str

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel needs.

        Raises:
            InvalidArgument: a file cannot be read.
        """
        ca, key, certificate = (_read(path) for path in (self.ca, self.key, self.certificate))
        return grpc.ssl_channel_credentials(ca, key, certificate)


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon."""

    address: str
    """As grpc spells it."""
    tls: TlsFiles | None = None

    @classmethod
    def parse(cls, url: str, tls: TlsFiles | None = None) -> Target:
        """What ``url`` says.

        Raises:
            InvalidArgument: it is no such URL, or says less than it must.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidArgument(f"host {url!r}: {error}") from None
        if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
            return cls(f"unix:{url.removeprefix('unix://')}")
        if parts.scheme == "tcp" and parts.hostname and port and parts.path in {"", "/"}:
            if tls is None:
                raise InvalidArgument(f"host {url}: over TCP a CA, a certificate and a key are needed")
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return cls(f"{host}:{port}", tls)
        raise InvalidArgument(f"host {url!r} is neither unix:///path nor tcp://host:port")

    def channel(self) -> grpc.aio.Channel:
        """A channel, which connects when it is first used; made inside the event loop.

        Raises:
            InvalidArgument: a file cannot be read.
        """
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        return grpc.aio.secure_channel(self.address, self.tls.credentials(), options=_OPTIONS)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"TLS: {path} cannot be read: {error.strerror}") from error
