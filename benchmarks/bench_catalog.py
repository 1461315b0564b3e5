"""Requests to the daemon that read the catalog, with the daemon on one core; its clients have the others.

There are some tens of runtimes and tokens, each request has a token that is looked up, and each has its line in the audit log.
The budget is 500 of them in a second.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from harness import peers
from harness.daemons import daemon
from harness.rounds import timed

from shim.catalog import Catalog, PluginRuntime, Tokens

if TYPE_CHECKING:
    from pathlib import Path

READS = 500
CLIENTS = 8
RECORDS = 30


class Client:
    """One connection, which stays."""

    def __init__(self, path: Path, token: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(path))
        head = "GET /v1/sys/plugins/runtimes/catalog/container/r7 HTTP/1.1"
        self._request = f"{head}\r\nHost: x\r\nX-Vault-Token: {token}\r\n\r\n".encode()

    def read(self, count: int) -> None:
        for _ in range(count):
            self._sock.sendall(self._request)
            answer = b""
            while not answer.endswith(b"}\n"):
                answer += self._sock.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 "), answer

    def close(self) -> None:
        self._sock.close()


@pytest.fixture(scope="module")
def connect():
    """Makes clients of a daemon that runs on the last of the cores."""
    with daemon("grpc = false", "rate_limit = 0") as root:
        token = fill(f"{root}/data")
        made: list[Client] = []

        def client() -> Client:
            made.append(Client(root / "daemon.sock", token))
            return made[-1]

        yield client
        for one in made:
            one.close()


def fill(data_root: str) -> str:
    """The catalog and the tokens of a host that is in use; the secret of one of them."""
    catalog, tokens = Catalog("filesystem", data_root), Tokens("filesystem", data_root)
    tokens.put_policy("read", 'path "sys/plugins/*" { capabilities = ["read", "list", "sudo"] }')
    for number in range(RECORDS):
        catalog.register_runtime(PluginRuntime(f"r{number}", oci_runtime="runc", memory_bytes=64 << 20))
        secret, _ = tokens.create(["read"])
    return secret


@pytest.mark.parametrize("clients", [1, CLIENTS])
def test_reads(record, connect, full, clients):
    crowd = [connect() for _ in range(clients)]
    with ThreadPoolExecutor(clients) as threads:

        def reads() -> None:
            for _ in threads.map(lambda client: client.read(READS // clients), crowd):
                pass

        reads()
        samples = [timed(reads) for _ in range(20 if full else 5)]
    # As if it were 500 of them, where that cannot be shared out evenly.
    scale = READS / (READS // clients * clients)
    name = f"{READS} reads of the catalog" + (f", {clients} clients" if clients > 1 else "")
    record(name, {peers.OURS: [sample * scale for sample in samples]})
