"""AutoMTLS: each side makes a certificate for this one connection, and trusts that of the other and nothing else.

The host's comes to the plugin in its environment, the plugin's to the host in the handshake. Both are ECDSA on P-521, as
go-plugin makes them; the name in them is "localhost", whatever the connection goes over.

TLS is OpenSSL's here and not gRPC's own: that has BoringSSL, which does not accept a certificate on P-521 and has no way
to be told to. A ``Forwarder`` puts it between gRPC and the plugin.

Source: hashicorp/go-plugin, mtls.go; RFC 8446, 4.2.3.
"""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shim.errors import FailedPrecondition
from shim.linux.memfd import memfd_create

__all__ = ["SERVER_NAME", "Contexts", "Identity", "contexts", "new_identity"]

SERVER_NAME = "localhost"

_ORGANIZATION = "HashiCorp"
_SKEW = dt.timedelta(seconds=30)
_LIFE = dt.timedelta(hours=262_980)  # 30 years

# What Go's gRPC has asked for since 1.67, and what no older one minds.
_HTTP2 = ["h2"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The host's certificate and its key, in PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Contexts:
    """How we connect, and how we let connect."""

    client: ssl.SSLContext
    server: ssl.SSLContext


def new_identity() -> Identity:
    """A certificate that nobody has seen before."""
    key = ec.generate_private_key(ec.SECP521R1())
    names = [(NameOID.COMMON_NAME, SERVER_NAME), (NameOID.ORGANIZATION_NAME, _ORGANIZATION)]
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in names])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
    )
    for extension, critical in _extensions():
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(key, hashes.SHA512())
    encoding = serialization.Encoding.PEM
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Identity(
        certificate.public_bytes(encoding).decode(), key.private_bytes(encoding, form, plain).decode()
    )


def contexts(identity: Identity, certificate: bytes) -> Contexts:
    """For connections with the plugin whose certificate, in DER, is ``certificate``; with others TLS fails.

    Raises:
        FailedPrecondition: that is no certificate.
    """
    client = _context(ssl.PROTOCOL_TLS_CLIENT, identity, certificate)
    client.check_hostname = True
    return Contexts(client, _context(ssl.PROTOCOL_TLS_SERVER, identity, certificate))


def _context(protocol: int, identity: Identity, certificate: bytes) -> ssl.SSLContext:
    # Not create_default_context: what it asks of a chain since Python 3.13, Go's self-signed certificates do not have.
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(_HTTP2)
    try:
        context.load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError) as error:
        raise FailedPrecondition(f"the plugin's certificate cannot be read: {error}") from error
    # The module reads keys from files only; this one has no name and is in memory.
    with memfd_create("plugin-identity", (identity.certificate + identity.key).encode()) as file:
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def _extensions() -> list[tuple[x509.ExtensionType, bool]]:
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=True,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), False),
    ]
