"""The program that containerd executes, executed as containerd does it, without a containerd."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from support import bed, templates
from support.client_streams import DEADLINE_S, poll
from support.shims import NAMESPACE, Connection

from shim.bootstrap.listener import containerd_socket
from shim.errors import ShimError
from shim.proto.bootstrap_pb2 import BootstrapParams


class Program:
    """``containerd-shim-ocishim-v2`` for a containerd at ``root``/containerd.sock; ends the shims that it started.

    It is either the interpreter's program, or the launcher with a template that serves it.
    """

    def __init__(self, root: Path, *, template: bool = False) -> None:
        self.root = root
        self.program = [sys.executable, "-m", "shim.bootstrap.containerd"]
        self.address = f"{root}/containerd.sock"
        self.config = root / "config.toml"
        self.config.write_text(f'state_root = "{root}/o"\nidle_timeout = 3600.0\n')
        own = {"OCISHIM_CONFIG": str(self.config), "PYTHONPATH": str(bed.CHECKOUT), "OCISHIM_TEMPLATE": ""}
        self.env = {**os.environ, **own}
        self.addresses: set[str] = set()
        if template:
            self.program = [str(templates.installed() / templates.LAUNCHER)]
            templates.ready(templates.installed(), **self.env)
            self.env["OCISHIM_TEMPLATE"] = "only"

    def command(
        self, action: str, container_id: str, bundle: Path | None = None, namespace: str = NAMESPACE
    ) -> list[str]:
        """The words of containerd, in its order."""
        flags = ["-namespace", namespace, "-address", self.address, "-publish-binary", "/usr/bin/containerd"]
        flags += ["-id", container_id, *(["-bundle", str(bundle)] if bundle else [])]
        return [*self.program, *flags, action]

    def run(
        self, argv: list[str], cwd: Path, stdin: bytes = b"", **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Both outputs on one pipe, up to its end, as containerd reads them."""
        return subprocess.run(
            argv,
            cwd=cwd,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self.env, **env},
            timeout=DEADLINE_S,
            process_group=0,
            check=False,
        )

    def start(self, bundle: Path, container_id: str, stdin: bytes = b"", **env: str) -> str:
        """What ``start`` prints."""
        done = self.run(self.command("start", container_id), bundle, stdin, **env)
        assert done.returncode == 0, done.stdout
        text = done.stdout.decode()
        self.addresses.add(f"unix://{text.partition('unix://')[2].partition(chr(34))[0]}")
        return text

    def params(self, container_id: str, **fields: Any) -> bytes:
        """The stdin of containerd 2.3."""
        told = {"instance_id": container_id, "namespace": NAMESPACE, "socket_dir": f"{self.root}/s", **fields}
        return BootstrapParams(**told).SerializeToString()

    def socket(self, group: str) -> Path:
        """Where the shim of ``group`` listens if nobody says otherwise."""
        return Path(containerd_socket("/run/containerd/s", self.address, NAMESPACE, group))

    def connect(self) -> Connection:
        """The only shim."""
        (address,) = self.addresses
        return Connection(address)

    def pid(self) -> int:
        """The only shim's."""
        with self.connect() as connection:
            return connection.call("Connect", id="x").shim_pid

    def end(self) -> None:
        """No shim runs."""
        for address in self.addresses:
            with suppress(ShimError), Connection(address) as connection:
                pidfd = os.pidfd_open(connection.call("Connect", id="x").shim_pid)
                for container_id in connection.inspect()["containers"]:
                    with suppress(ShimError):
                        connection.call("Kill", id=container_id, signal=9)
                    connection.call("Wait", id=container_id)
                    connection.call("Delete", id=container_id)
                connection.call("Shutdown", id="x")
                connection.client.close()
                assert poll(pidfd, select.POLLIN, DEADLINE_S), "the shim does not end"
                os.close(pidfd)
        self.addresses.clear()
