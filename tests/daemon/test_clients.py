"""Real clients at a real daemon: curl with the commands of Vault's documentation, and hvac."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import hvac
import pytest
import requests
from hvac.adapters import JSONAdapter
from hvac.exceptions import (
    Forbidden,
    InvalidPath,
    InvalidRequest,
    RateLimitExceeded,
    UnexpectedError,
    UnsupportedOperation,
)
from support import bed
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from shim.catalog import Tokens

RUNTIMES = "sys/plugins/runtimes/catalog"
EXAMPLE = {
    "name": "example-plugin-runtime",
    "type": "container",
    "oci_runtime": "example-oci-runtime",
    "cgroup_parent": "/examplelimit/",
    "cpu_nanos": 1000,
    "memory_bytes": 10000000,
}

# From Vault's documentation of /sys/plugins/runtimes/catalog; the backslash that it has forgotten is here.
REGISTER = """curl \\
    --header "X-Vault-Token: ..." \\
    --request POST \\
    --data @payload.json \\
    http://127.0.0.1:8200/v1/sys/plugins/runtimes/catalog/container/example-plugin-runtime"""
READ = """curl \\
    --header "X-Vault-Token: ..." \\
    --request GET \\
    http://127.0.0.1:8200/v1/sys/plugins/runtimes/catalog/container/example-plugin-runtime"""
LIST = """curl \\
    --header "X-Vault-Token: ..." \\
    --request LIST \\
    http://127.0.0.1:8200/v1/sys/plugins/runtimes/catalog"""
LIST_BY_GET = LIST.replace("--request LIST", "--request GET")
REMOVE = READ.replace("GET", "DELETE")


def test_the_samples_of_the_documentation(leaks, make_daemon, tmp_path):
    bed.need(shutil.which("curl"), "curl is not installed")
    daemon = make_daemon("grpc = false").start()
    payload = {key: value for key, value in EXAMPLE.items() if key not in {"name", "type"}}
    (tmp_path / "payload.json").write_text(json.dumps(payload, indent=2))

    options = f"--silent --show-error --write-out '\\n%{{http_code}}' --unix-socket {daemon.socket}"

    def run(command: str) -> tuple[int, dict[str, object] | None]:
        script = f'curl() {{ command curl {options} "$@"; }}\n{command.replace("...", daemon.root)}'
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        body, _, code = done.stdout.rpartition("\n")
        return int(code), json.loads(body) if body.strip() else None

    def data(answer: tuple[int, dict[str, object] | None]) -> object:
        assert answer[0] == 200
        return answer[1]["data"]

    ours = {**EXAMPLE, "rootless": False}
    assert run(REGISTER) == (204, None)
    assert data(run(READ)) == ours
    assert data(run(LIST)) == data(run(LIST_BY_GET)) == {"runtimes": [ours]}
    assert run(REMOVE) == (204, None)
    assert run(READ)[0] == 404
    assert daemon.stop() == 0


class UnixAdapter(requests.adapters.HTTPAdapter):
    """requests over one unix socket, whatever the address says."""

    def __init__(self, path):
        self._path = path
        super().__init__()

    def get_connection_with_tls_context(self, *_request, **_options):
        return UnixPool(self._path)


class UnixPool(HTTPConnectionPool):
    def __init__(self, path):
        super().__init__("localhost")
        self._path = path

    def _new_conn(self):
        return UnixConnection(self._path)


class UnixConnection(HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self._path = path

    def _new_conn(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self._path)
        return sock


@pytest.fixture
def vault(daemon):
    """Makes clients: ``vault(token)``."""
    sessions = []

    def make(token, **options):
        session = requests.Session()
        session.mount("http://", UnixAdapter(str(daemon.socket)))
        sessions.append(session)
        return hvac.Client("http://localhost:8200", token=token, session=session, **options)

    yield make
    for session in sessions:
        session.close()


def test_hvac_does_all_of_it(daemon, vault):
    client = vault(daemon.root)
    assert client.sys.is_initialized()
    assert not client.sys.is_sealed()
    assert client.sys.read_health_status(method="GET")["initialized"]
    assert client.is_authenticated()
    assert client.lookup_token()["data"]["policies"] == ["root"]
    assert client.list(RUNTIMES) is None
    answer = client.write_data(f"{RUNTIMES}/container/gvisor", data={"cpu_nanos": 1000, "memory_bytes": "7"})
    assert answer.status_code == 204
    read = client.read(f"{RUNTIMES}/container/gvisor")
    assert read["data"]["cpu_nanos"] == 1000
    assert client.list(RUNTIMES)["data"]["runtimes"] == [read["data"]]
    assert client.read(RUNTIMES)["data"]["runtimes"] == [read["data"]]
    warned = client.write_data(f"{RUNTIMES}/container/gvisor", data={"speed": 1})
    assert warned["warnings"] == ["Endpoint ignored these unrecognized parameters: [speed]"]
    client.write_data("sys/plugins/catalog/secret/kv", data={"sha256": "a" * 64, "command": "kv"})
    assert client.read("sys/plugins/catalog")["data"]["secret"] == ["kv"]
    assert client.list("sys/plugins/catalog/secret")["data"]["keys"] == ["kv"]
    assert client.read("sys/plugins/catalog/secret/kv")["data"]["command"] == "kv"
    client.delete("sys/plugins/catalog/secret/kv")
    client.delete(f"{RUNTIMES}/container/gvisor")
    assert client.read(f"{RUNTIMES}/container/gvisor") is None
    capabilities = client.sys.get_capabilities(paths=[RUNTIMES])
    assert capabilities["data"]["capabilities"] == ["root"]
    token = client.token
    client.logout(revoke_token=True)
    assert not vault(token).is_authenticated()


def test_hvac_lists_by_get_for_the_strict(daemon, vault):
    client = vault(daemon.root, adapter=JSONAdapter, strict_http=True)
    client.write_data(f"{RUNTIMES}/container/gvisor", data={})
    assert client.list(RUNTIMES)["data"]["runtimes"][0]["name"] == "gvisor"


def test_hvac_gets_its_own_exceptions(daemon, vault):
    client = vault(daemon.root)
    with pytest.raises(InvalidRequest, match="runtime cpu in nanos cannot be negative"):
        client.write_data(f"{RUNTIMES}/container/a", data={"cpu_nanos": -1})
    with pytest.raises(InvalidPath, match="unsupported path"):
        client.write_data(f"{RUNTIMES}/vm/a", data={})
    with pytest.raises(InvalidPath, match="plugin runtime not found"):
        client.delete(f"{RUNTIMES}/container/nobody")
    # hvac has the name of this one, and up to 2.4 not its status.
    with pytest.raises((UnsupportedOperation, UnexpectedError), match="unsupported operation"):
        client.write_data(RUNTIMES, data={})
    tokens = Tokens("filesystem", str(daemon.data_root))
    tokens.put_policy(
        "nothing", f'path "{RUNTIMES}/*" {{ capabilities = ["read", "list", "update", "delete"] }}'
    )
    for token, said in (("", "missing client token"), ("nobody", "permission denied")):
        with pytest.raises(Forbidden, match=said):
            vault(token).list(RUNTIMES)
        assert not vault(token).is_authenticated()
    secret, _ = tokens.create(["nothing"])
    with pytest.raises(Forbidden, match=r"1 error occurred:\n\t\* permission denied"):
        vault(secret).read(f"{RUNTIMES}/container/a")
    assert vault(secret).is_authenticated()


def test_hvac_asks_too_often(make_daemon, vault, daemon):
    daemon.configure("grpc = false", "rate_limit = 0.01", "rate_burst = 1")
    daemon.reload()
    client = vault(daemon.root)
    client.list(RUNTIMES)
    with pytest.raises(RateLimitExceeded):
        client.list(RUNTIMES)


def test_writers_in_several_processes_lose_nothing(daemon):
    """The command line and the API change the same catalog at the same time."""
    environment = {**os.environ, "OCISHIM_CONFIG": str(daemon.config)}
    script = """
import sys
from shim.cli.app import run
for number in range(20):
    assert run(["runtime", "register", "-type=container", "-cpu_nanos=5", f"{sys.argv[1]}-{number}"]) == 0
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", script, name], env=environment, stdout=subprocess.DEVNULL)
        for name in ("one", "two")
    ]
    with daemon.client() as client:
        for number in range(40):
            assert client.post(f"{RUNTIMES}/container/api-{number}", json={"cpu_nanos": 5}).status_code == 204
        assert [writer.wait(60) for writer in writers] == [0, 0]
        found = client.request("LIST", RUNTIMES).json()["data"]["runtimes"]
    assert {each["name"] for each in found} == {
        *(f"{name}-{number}" for name in ("one", "two") for number in range(20)),
        *(f"api-{number}" for number in range(40)),
    }
    assert {each["cpu_nanos"] for each in found} == {5}


def test_metrics_are_what_prometheus_reads(daemon):
    with daemon.client() as client:
        client.get("sys/health")
        page = client.get("http://daemon/metrics", headers={"X-Vault-Token": ""})
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert re.search(r"^ocishim_connections\{api=\"http\"\} [12]\.0$", page.text, re.MULTILINE)
    assert "process_resident_memory_bytes" in page.text
