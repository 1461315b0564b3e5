"""``ocishim daemon`` as a process, started as systemd starts it: it says when it is ready."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from support import bed

from shim.catalog import Tokens

DEADLINE_S = 30
_PORT = re.compile(r"127\.0\.0\.1:(\d+)")


class DaemonProcess:
    """One daemon over ``folder``, which may be started again; ``lines`` are those of its table in the configuration."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.data_root = folder / "data"
        self.socket = folder / "daemon.sock"
        self.grpc_socket = folder / "grpc.sock"
        self.log = folder / "daemon.log"
        self.audit = self.data_root / "audit.log"
        self.configure(*lines)
        self.process: subprocess.Popen[bytes] | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(DEADLINE_S)
        self._root = ""
        self.python: tuple[str, ...] = ()
        """Options of the interpreter."""

    def configure(self, *lines: str) -> None:
        """The configuration is another one, for whoever reads it next."""
        roots = (f'state_root = "{self.folder}"', f'data_root = "{self.data_root}"')
        self.config.write_text("\n".join([*roots, "[daemon]", *lines]) + "\n")

    @property
    def command(self) -> list[str]:
        """What is executed."""
        return [sys.executable, *self.python, "-m", "shim", "--config", str(self.config), "daemon"]

    def start(self, *before: str, **environment: str) -> Self:
        """It runs and is ready. ``before`` comes before the command: a program that executes it."""
        env = {**os.environ, "NOTIFY_SOCKET": f"{self.folder}/notify", **environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, *self.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )
        try:
            assert self.told()["READY"] == "1"
        except TimeoutError:
            raise AssertionError(f"the daemon does not start:\n{self.log.read_text()}") from None
        return self

    def told(self) -> dict[str, str]:
        """The next that systemd is told."""
        return dict(line.split("=", 1) for line in self._notify.recv(4096).decode().splitlines())

    def reload(self) -> None:
        """It has read its configuration again."""
        self.send(signal.SIGHUP)
        assert self.told()["RELOADING"] == "1"
        assert self.told()["READY"] == "1"

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """It has ended; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        self.process = None
        return code

    def close(self) -> None:
        """Nothing is left of it. What it has logged as an error is shown where a test has failed."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        self._notify.close()
        print(self.log.read_text() if self.log.exists() else "")  # noqa: T201 - pytest shows it for tests that fail
        shutil.rmtree(self.folder)

    @property
    def port(self) -> int:
        """Where it listens, told to listen at any port of 127.0.0.1."""
        bed.until(lambda: _PORT.search(self.log.read_text()), "the port is not told")
        return int(_PORT.findall(self.log.read_text())[-1])

    @property
    def root(self) -> str:
        """The secret of a token that may do all."""
        if not self._root:
            self._root, _ = Tokens("filesystem", str(self.data_root)).create(root=True)
        return self._root

    @contextmanager
    def client(self, **options: Any) -> Iterator[httpx.Client]:
        """With root's token, over the unix socket."""
        transport = options.pop("transport", None) or httpx.HTTPTransport(verify=False, uds=str(self.socket))
        options = {"base_url": "http://daemon/v1/", "headers": {"X-Vault-Token": self.root}, **options}
        with httpx.Client(transport=transport, timeout=DEADLINE_S, **options) as client:
            yield client

    def raw(self, data: bytes = b"") -> socket.socket:
        """A connection to the unix socket, on which ``data`` was sent; the caller closes it."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE_S)
        try:
            sock.connect(str(self.socket))
        except BaseException:
            sock.close()
            raise
        if data:
            sock.sendall(data)
        return sock
