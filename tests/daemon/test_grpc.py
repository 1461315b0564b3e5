"""gRPC's own client, through the gate and over TLS, to the daemon's gRPC API."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.certificates import Authority
from support.daemons import DEADLINE_S

from shim.proto.first_api_pb2 import StateRequest, StateResponse


def state(channel):
    call = channel.unary_unary(
        "/types.API/State",
        request_serializer=StateRequest.SerializeToString,
        response_deserializer=StateResponse.FromString,
    )
    return call(StateRequest(), timeout=DEADLINE_S)


def test_through_the_gate(leaks, make_daemon):
    daemon = make_daemon().start()
    with grpc.insecure_channel(f"unix:{daemon.grpc_socket}") as channel:
        assert state(channel).machine.cpus > 0
        found = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="types.API"), timeout=DEADLINE_S
        )
        assert found.status == health_pb2.HealthCheckResponse.SERVING
        with daemon.client() as client:
            page = client.get("http://daemon/metrics").text
        assert 'ocishim_connections{api="grpc"} 1.0' in page
    assert daemon.stop() == 0
    assert "level=error" not in daemon.log.read_text()


def test_the_socket_behind_the_gate_is_nobodys_way(make_daemon):
    daemon = make_daemon().start()
    private = daemon.folder / "grpc"
    assert private.stat().st_mode & 0o777 == 0o700
    assert [entry.is_socket() for entry in private.iterdir()] == [True]
    daemon.stop()
    assert not list(private.iterdir())


def test_a_client_that_rests_does_not_hold_up_the_end(make_daemon):
    daemon = make_daemon("stop_timeout = 30").start()
    with grpc.insecure_channel(f"unix:{daemon.grpc_socket}") as channel:
        state(channel)
        assert daemon.stop() == 0
        with pytest.raises(grpc.RpcError) as caught:
            state(channel)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_after_a_kill(make_daemon):
    daemon = make_daemon().start()
    daemon.stop(9)
    daemon.start()
    with grpc.insecure_channel(f"unix:{daemon.grpc_socket}") as channel:
        assert state(channel).machine.memory > 0


def test_over_tls_for_those_who_have_a_certificate(make_daemon, tmp_path):
    authority, clients = Authority(tmp_path), Authority(tmp_path, "clients")
    certificate, key = authority.issue("server")
    daemon = make_daemon(
        'grpc_tcp = "127.0.0.1:0"',
        f'tls_certificate = "{certificate}"',
        f'tls_key = "{key}"',
        f'tls_client_ca = "{clients.path}"',
    ).start()

    def call(*pair):
        chain, secret = (path.read_bytes() for path in pair) if pair else (None, None)
        secrets = grpc.ssl_channel_credentials(authority.path.read_bytes(), secret, chain)
        with grpc.secure_channel(f"localhost:{daemon.port}", secrets) as channel:
            return state(channel)

    assert call(*clients.issue("me")).machine.cpus > 0
    for stranger in ((), Authority(tmp_path, "others").issue("other")):
        with pytest.raises(grpc.RpcError) as caught:
            call(*stranger)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
