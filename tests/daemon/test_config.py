from __future__ import annotations

import os
from pathlib import Path

import pytest

from shim.config import Config, load
from shim.daemon.config import DaemonConfig, parse_address
from shim.errors import InvalidArgument

CONFIG = Config(state_root="/run/o", data_root="/var/lib/o")
TLS = {"tls_certificate": "/c", "tls_key": "/k"}


def test_places_that_are_not_given_are_those_of_the_configuration():
    found = DaemonConfig.load({}, CONFIG)
    assert (found.socket, found.grpc_socket) == ("/run/o/daemon.sock", "/run/o/grpc.sock")
    assert found.audit_log == "/var/lib/o/audit.log"
    assert found.group is None
    assert found.settings.rate_limit == 1000


def test_everything_can_be_said():
    table = {
        "socket": "/s",
        "socket_group": "0",
        "tcp": "[::1]:8200",
        **TLS,
        "tls_client_ca": "/ca",
        "grpc": True,
        "grpc_socket": "/g",
        "grpc_tcp": "localhost:0",
        "audit_log": "stderr",
        "require_request_header": True,
        "max_request_bytes": 1,
        "rate_limit": 0,
        "rate_burst": 1,
        "request_timeout": 0.5,
        "max_connections": 1,
        "stop_timeout": 1,
        "open_metrics": True,
    }
    found = DaemonConfig.load(table, CONFIG)
    assert {key: getattr(found, key) for key in table} == table
    assert table.keys() == set(DaemonConfig.__dataclass_fields__), "every key is tried here"
    assert found.group == 0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"sockets": "/s"}, "daemon: unknown key 'sockets'"),
        ({"socket": 3}, "daemon: socket = 3 is not a valid str"),
        ({"socket": "s"}, "socket = 's': must be an absolute path"),
        ({"socket": "/a\0b"}, "contains a NUL byte"),
        ({"socket": "/" + "a" * 107}, "is 1 bytes too long for a unix socket"),
        ({"grpc_socket": "/run/o/../o/daemon.sock"}, "is that of the HTTP API already"),
        ({"grpc": "yes"}, "grpc = 'yes' is not a valid bool"),
        ({"audit_log": "stdout"}, "audit_log = 'stdout': must be an absolute path"),
        ({"max_request_bytes": -1}, "max_request_bytes = -1"),
        ({"max_request_bytes": 0}, "max_request_bytes = 0: must be 1 or more"),
        ({"rate_burst": 0}, "rate_burst = 0: must be 1 or more"),
        ({"max_connections": True}, "max_connections = True"),
        ({"rate_limit": -1.0}, "rate_limit = -1.0: must be a positive number"),
        ({"request_timeout": 0}, "request_timeout = 0: must be a positive number"),
        ({"stop_timeout": float("nan")}, "stop_timeout = nan: must be a positive number"),
        ({"request_timeout": float("inf")}, "request_timeout = inf: must be a positive number"),
        ({"tcp": "127.0.0.1:8200"}, "over TCP there is TLS only; give tls_certificate and tls_key"),
        ({"tls_certificate": "/c"}, "tls_certificate and tls_key go together"),
        ({"grpc_tcp": "127.0.0.1:1", **TLS}, "give tls_client_ca"),
        ({"socket_group": "nobody-has-this"}, "socket_group = 'nobody-has-this': there is no such group"),
        ({"socket_group": "0"}, "give socket a place outside of it"),
        ({"socket_group": "0", "socket": "/s"}, "give grpc_socket a place outside of it"),
    ],
)
def test_what_cannot_be_names_key_and_value(table, said):
    with pytest.raises(InvalidArgument) as caught:
        DaemonConfig.load(table, CONFIG)
    assert said in str(caught.value)
    assert str(caught.value).startswith("daemon: ")


def test_a_state_root_may_be_too_long():
    long = Config(state_root="/" + "a" * 97, data_root="/d")
    table = {"socket": "/s", "grpc_socket": "/g"}
    with pytest.raises(InvalidArgument, match="is 1 bytes too long for unix sockets in it"):
        DaemonConfig.load(table, long)
    assert DaemonConfig.load({**table, "grpc": False}, long).socket == "/s"


def test_a_group_needs_no_place_for_what_is_off():
    assert DaemonConfig.load({"socket_group": "0", "socket": "/s", "grpc": False}, CONFIG).group == 0


@pytest.mark.parametrize(
    ("address", "found"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_addresses(address, found):
    assert parse_address("tcp", address) == found


@pytest.mark.parametrize(
    "address", ["", ":80", "a", "a:", "a:x", "a:-1", "a:65536", "a:\u0661", "::1:80", "[]:80"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(InvalidArgument, match=r"daemon: tcp = "):
        parse_address("tcp", address)


def test_the_table_is_not_the_shims(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text("[daemon]\ngrpc = false\n")
    assert load(os.fspath(file)).runtime == "runc"
