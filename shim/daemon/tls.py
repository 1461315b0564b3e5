"""TLS for the HTTP API: version 1.2 or newer, and who may connect at all, where there are authorities for that.

A context is made anew for every reload, and given to each connection when it is accepted: connections that are there keep
theirs.

Source: Python's ssl documentation.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from shim.daemon.config import DaemonConfig

__all__ = ["server_context"]


def server_context(config: DaemonConfig) -> ssl.SSLContext | None:
    """What connections over TCP are secured with; None where there is no certificate. Reads the files.

    Raises:
        InvalidArgument: one of them cannot be used; names it.
    """
    if not config.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # With no password, OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(config.tls_certificate, config.tls_key, password="")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise InvalidArgument(
            f"daemon: tls_certificate = {config.tls_certificate!r}, tls_key = {config.tls_key!r}: {_why(error)}"
        ) from error
    if config.tls_client_ca:
        try:
            context.load_verify_locations(config.tls_client_ca)
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"daemon: tls_client_ca = {config.tls_client_ca!r}: {_why(error)}"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").replace("_", " ").lower()
        return f"no PEM files that go together, or the key is encrypted ({reason or error})"
    return getattr(error, "strerror", None) or str(error)
