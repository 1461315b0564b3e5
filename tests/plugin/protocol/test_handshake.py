"""The line of the handshake is read as go-plugin reads it, and the environment is the one that it looks into."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import FailedPrecondition, InvalidArgument, ShimError, Unimplemented
from shim.plugin.protocol.handshake import HandshakeConfig, PluginAddress, environment, parse_line

CERTIFICATE = bytes(range(100))
RAW = base64.b64encode(CERTIFICATE).decode().rstrip("=")

words = st.text(string.ascii_letters + string.digits + "/._-: ", min_size=1).map(str.strip).filter(bool)


@given(
    version=st.integers(0, 9),
    network=st.sampled_from(["unix", "tcp"]),
    address=words,
    certificate=st.one_of(st.just(b""), st.binary(min_size=40, max_size=400)),
    multiplexed=st.sampled_from(["", "|true", "|false"]),
    end=st.sampled_from(["", "\n", "\r\n", " \n"]),
)
def test_what_go_plugin_prints_is_understood(version, network, address, certificate, multiplexed, end):
    raw = base64.b64encode(certificate).decode().rstrip("=")
    line = f"1|{version}|{network}|{address}|grpc|{raw}{multiplexed}{end}"
    assert parse_line(line, range(10)) == PluginAddress(
        version, network, address, certificate, multiplexed == "|true"
    )


def outcome(line: str) -> PluginAddress | ShimError:
    try:
        return parse_line(line, {1, 2})
    except ShimError as error:
        return error


@given(st.text() | st.lists(st.text("0123456789|unixtcpgr/=+ \x00é", max_size=12), max_size=9).map("|".join))
def test_anything_else_is_an_error_in_one_line(line):
    answer = outcome(line)
    assert isinstance(answer, PluginAddress) or "\n" not in str(answer)


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("", FailedPrecondition, "unrecognized remote plugin message: ''"),
        ("hello, world", FailedPrecondition, "unrecognized remote plugin message: 'hello, world'"),
        ("1|1|unix", FailedPrecondition, "unrecognized remote plugin message"),
        (
            "2|1|unix|/s|grpc|",
            FailedPrecondition,
            "incompatible core API version: the plugin's is 2, the host's 1",
        ),
        ("x|1|unix|/s|grpc|", FailedPrecondition, "core protocol version 'x'"),
        ("1_0|1|unix|/s|grpc|", FailedPrecondition, "core protocol version '1_0'"),
        (
            "1|7|unix|/s|grpc|",
            FailedPrecondition,
            "incompatible API version: the plugin's is 7, the host's 1, 2",
        ),
        ("1|one|unix|/s|grpc|", FailedPrecondition, "protocol version 'one'"),
        ("1|1|udp|/s|grpc|", FailedPrecondition, "'udp' '/s', which is no address"),
        ("1|1|unix||grpc|", FailedPrecondition, "is no address"),
        ("1|1|unix|/s", Unimplemented, "'netrpc' and not gRPC"),
        ("1|1|unix|/s|netrpc|", Unimplemented, "'netrpc' and not gRPC"),
        (f"1|1|unix|/s|grpc|{RAW}=", FailedPrecondition, "not in base64"),
        (f"1|1|unix|/s|grpc|{RAW[:-1]}-", FailedPrecondition, "not in base64"),
        ("1|1|unix|/s|grpc|" + "A" * 65, FailedPrecondition, "not in base64"),
        (f"1|1|unix|/s|grpc|{RAW}|maybe", FailedPrecondition, "'maybe' for multiplexing"),
    ],
)
def test_what_is_wrong_is_said(line, kind, text):
    with pytest.raises(kind) as caught:
        parse_line(line, {2, 1})
    assert text in str(caught.value)


def test_plugins_of_old_leave_fields_out_or_put_something_else_there():
    assert parse_line("1|1|unix|/s|grpc", {1}) == PluginAddress(1, "unix", "/s")
    assert parse_line("1|1|tcp|127.0.0.1:1|grpc|extra", {1}) == PluginAddress(1, "tcp", "127.0.0.1:1")
    assert parse_line("1|1|unix|/s|grpc||true|more", {1}).multiplexed


def test_the_environment_has_what_go_plugin_looks_for():
    config = HandshakeConfig("BASIC_PLUGIN", "hello", (3, 4))
    plain = {
        "BASIC_PLUGIN": "hello",
        "PLUGIN_PROTOCOL_VERSIONS": "3,4",
        "PLUGIN_MIN_PORT": "10000",
        "PLUGIN_MAX_PORT": "25000",
        "PLUGIN_UNIX_SOCKET_DIR": "/s",
        "TMPDIR": "/s",
    }
    assert environment(config, "/s") == plain
    assert environment(config, "/s", certificate="PEM", group="12", multiplex=True) == {
        **plain,
        "PLUGIN_CLIENT_CERT": "PEM",
        "PLUGIN_UNIX_SOCKET_GROUP": "12",
        "PLUGIN_MULTIPLEX_GRPC": "true",
    }


@pytest.mark.parametrize(
    ("key", "value", "versions"),
    [("", "v", (1,)), ("K", "", (1,)), ("K=", "v", (1,)), ("K", "v\0", (1,)), ("K", "v", ())],
)
def test_what_cannot_be_agreed_on_is_refused(key, value, versions):
    with pytest.raises(InvalidArgument):
        HandshakeConfig(key, value, versions)
