"""The two forms of stdin, each of which parses as the other."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.shims import options, raises

from shim.bootstrap.arguments import Invocation
from shim.bootstrap.params import Params, parse
from shim.errors import InvalidArgument
from shim.proto.bootstrap_pb2 import BootstrapParams, Extension
from shim.proto.runc_options_pb2 import Options

# On a busy machine everything is slow.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ASKED = Invocation("start", "ns", "c1")
RUNC = AnyMessage(
    type_url="containerd.runc.v1.Options", value=Options(binary_name="crun").SerializeToString()
)


def test_nothing():
    assert parse(b"", ASKED) == Params()


@pytest.mark.parametrize("sent", [RUNC, options(runtime="runsc"), AnyMessage(type_url="types.of/others")])
def test_the_options_of_older_ones(sent):
    assert parse(sent.SerializeToString(), ASKED) == Params(options=sent)


def test_all_that_newer_ones_tell():
    sent = BootstrapParams(
        instance_id="c1",
        namespace="ns",
        log_level=-4,
        containerd_ttrpc_address="unix:///run/c.sock.ttrpc",
        extensions=[Extension(value=AnyMessage(type_url="something.else")), Extension(value=RUNC)],
        socket_dir="/run/s",
    )
    wanted = Params(
        modern=True, options=RUNC, ttrpc_address="/run/c.sock.ttrpc", socket_dir="/run/s", debug=True
    )
    assert parse(sent.SerializeToString(), ASKED) == wanted


@pytest.mark.parametrize(
    "url", ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options", "x/" + RUNC.type_url]
)
def test_every_name_of_options_is_found_among_the_extensions(url):
    sent = AnyMessage(type_url=url, value=b"")
    params = BootstrapParams(instance_id="c1", namespace="ns", extensions=[Extension(value=sent)])
    assert parse(params.SerializeToString(), ASKED).options == sent


@pytest.mark.parametrize(("level", "debug"), [(-8, True), (-4, True), (0, False), (4, False), (99, False)])
def test_levels(level, debug):
    params = BootstrapParams(instance_id="c1", namespace="ns", log_level=level)
    assert parse(params.SerializeToString(), ASKED).debug is debug


def test_an_any_that_reads_as_parameters_stays_an_any():
    """Field 1 and 2 are text in both: only the id and the namespace of the command line tell them apart."""
    sent = AnyMessage(type_url="containerd.runc.v1.Options", value=b"ns")
    assert BootstrapParams.FromString(sent.SerializeToString()).namespace == "ns"
    assert parse(sent.SerializeToString(), ASKED) == Params(options=sent)


@pytest.mark.parametrize(("instance_id", "namespace"), [("c2", "ns"), ("c1", "other"), ("", "ns")])
def test_parameters_of_somebody_else_are_none(instance_id, namespace):
    params = BootstrapParams(instance_id=instance_id, namespace=namespace, socket_dir="/elsewhere")
    assert not parse(params.SerializeToString(), ASKED).modern


def test_an_invocation_without_an_id_is_never_modern():
    assert not parse(b"", Invocation("start")).modern


@untimed
@given(st.binary(max_size=200))
@example(b"\xff")
@example(b"\x0a\x05ab")
def test_whatever_else_is_an_invalid_argument(data):
    try:
        parse(data, ASKED)
    except InvalidArgument as error:
        assert f"{len(data)} bytes on stdin" in str(error)  # noqa: PT017 - most data is valid


def test_what_cannot_be_decoded_says_so():
    with raises(InvalidArgument, "3 bytes on stdin", "neither"):
        parse(b"\xff\xff\xff", ASKED)
