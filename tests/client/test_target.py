"""Where a daemon is."""

from __future__ import annotations

import pytest

from shim.client import BlockingClient, Target, TlsFiles
from shim.errors import InvalidArgument, Unavailable

FILES = TlsFiles("ca", "certificate", "key")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///run/ocishim/grpc.sock", "unix:/run/ocishim/grpc.sock"),
        ("unix:///a b/%41?c#d", "unix:/a b/%41?c#d"),
        ("tcp://example.org:2379", "example.org:2379"),
        ("tcp://[::1]:1/", "[::1]:1"),
    ],
)
def test_urls(url, address):
    assert Target.parse(url, FILES).address == address


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "/run/x.sock", "unix:", "unix://", "unix://run/x", "unix:x", "tcp://", "tcp://host", "tcp://:1",
        "tcp://host:0", "tcp://host:x", "tcp://host:70000", "tcp://host:1/path", "http://host:1", "tcp://[::1",
    ],
)  # fmt: skip
def test_what_is_none(url):
    with pytest.raises(InvalidArgument, match="host"):
        Target.parse(url, FILES)


def test_over_tcp_there_is_tls_only():
    with pytest.raises(InvalidArgument, match="a CA, a certificate and a key are needed"):
        Target.parse("tcp://host:1")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InvalidArgument, match="missing cannot be read"):
        BlockingClient("tcp://host:1", tls=TlsFiles(*[f"{tmp_path}/missing"] * 3))


def test_nobody_there(tmp_path):
    with BlockingClient(f"unix://{tmp_path}/none") as client:
        with pytest.raises(Unavailable, match=r"unix://.*/none cannot be reached: No such file"):
            client.state()
        with pytest.raises(Unavailable):
            next(client.events())
