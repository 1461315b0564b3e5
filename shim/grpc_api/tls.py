"""TLS for the gRPC server: clients must have a certificate, and renewed files are taken without a restart.

grpc asks for the certificates at every handshake. They are read anew when one of the files is another one than before; while
what is there cannot be used, those that were read before go on, and the log says so.

Source: grpc, dynamic_ssl_server_credentials.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from shim.errors import InvalidArgument

__all__ = ["TlsListener", "credentials"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsListener:
    """A place on the network, and PEM files."""

    address: str
    """``host:port``; port 0: any that is free."""
    certificate: str
    key: str
    client_ca: str
    """The authorities of clients' certificates."""


def credentials(listener: TlsListener) -> grpc.ServerCredentials:
    """What the server shows, and asks for.

    Raises:
        InvalidArgument: a file cannot be read, or is no PEM file.
    """
    files = _Files(listener)
    fetch: Any = files.renewed  # which may return None, as the documentation says and the stubs do not
    return grpc.dynamic_ssl_server_credentials(files.configuration, fetch, require_client_authentication=True)


class _Files:
    def __init__(self, listener: TlsListener) -> None:
        self._listener = listener
        self._seen = self._look()
        self.configuration = self._read()

    def _look(self) -> tuple[object, ...]:
        found = []
        for path in (self._listener.certificate, self._listener.key, self._listener.client_ca):
            try:
                status = os.stat(path)
            except OSError as error:
                raise InvalidArgument(f"TLS: {path} cannot be read: {error.strerror}") from error
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        key, certificate, authorities = (
            _pem(path) for path in (self._listener.key, self._listener.certificate, self._listener.client_ca)
        )
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authorities)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is to be used from now on; None: the same. Called in a thread of grpc's."""
        try:
            seen = self._look()
            if seen == self._seen:
                return None
            configuration = self._read()
        except InvalidArgument as error:
            # The text alone: the error has our frames, and those the keys.
            _log.warning("the certificate stays what it was: %s", str(error))
            return None
        self._seen, self.configuration = seen, configuration
        _log.info("the certificate %s is a new one", self._listener.certificate)
        return configuration


def _pem(path: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"TLS: {path} cannot be read: {error.strerror}") from error
    if b"-----BEGIN " not in content:
        raise InvalidArgument(f"TLS: {path} is no PEM file")
    return content
