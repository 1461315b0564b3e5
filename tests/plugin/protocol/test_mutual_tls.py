"""The certificates are those that go-plugin makes, and each side takes only the other's."""

from __future__ import annotations

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from shim.errors import FailedPrecondition
from shim.plugin.protocol.mutual_tls import SERVER_NAME, Contexts, Identity, contexts, new_identity


def der(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.certificate)


def shaken(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=SERVER_NAME)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [ours, theirs]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    assert waiting == []
    # In TLS 1.3 the client hears whether its certificate was taken with the first data.
    theirs.write(b"welcome")
    assert ours.read() == b"welcome"
    return ours, theirs


def test_the_certificate_is_the_one_that_go_plugin_would_make():
    found = x509.load_pem_x509_certificate(new_identity().certificate.encode())
    assert isinstance(found.public_key().curve, ec.SECP521R1)
    assert found.subject.rfc4514_string() == found.issuer.rfc4514_string() == "O=HashiCorp,CN=localhost"
    assert found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    ) == ["localhost"]
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {oid._name for oid in usage} == {"clientAuth", "serverAuth"}
    assert found.not_valid_before_utc < dt.datetime.now(dt.UTC)
    assert found.not_valid_after_utc > dt.datetime.now(dt.UTC) + dt.timedelta(days=365 * 29)


def test_two_that_know_each_other_can_talk():
    host, plugin = new_identity(), new_identity()
    ours, theirs = shaken(contexts(host, der(plugin)).client, contexts(plugin, der(host)).server)
    assert ours.selected_alpn_protocol() == theirs.selected_alpn_protocol() == "h2"
    assert ours.getpeercert(binary_form=True) == der(plugin)
    assert theirs.getpeercert(binary_form=True) == der(host)


@pytest.mark.parametrize("stranger", ["client", "server"])
def test_nobody_else_gets_in(stranger):
    host, plugin, other = new_identity(), new_identity(), new_identity()
    ends: dict[str, Contexts] = {"client": contexts(host, der(plugin)), "server": contexts(plugin, der(host))}
    # It trusts whom it should, and shows what nobody knows.
    ends[stranger] = contexts(other, der(plugin if stranger == "client" else host))
    with pytest.raises(ssl.SSLError):
        shaken(ends["client"].client, ends["server"].server)


def test_a_client_without_a_certificate_does_not_get_in():
    host, plugin = new_identity(), new_identity()
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(cadata=der(plugin))
    with pytest.raises(ssl.SSLError):
        shaken(bare, contexts(plugin, der(host)).server)


@pytest.mark.parametrize("certificate", [b"", b"\x30\x00", bytes(100), b"-----BEGIN CERTIFICATE-----"])
def test_what_is_no_certificate_is_told(certificate):
    with pytest.raises(FailedPrecondition, match="the plugin's certificate cannot be read"):
        contexts(new_identity(), certificate)
