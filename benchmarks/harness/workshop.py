"""Where a run of the benchmarks keeps what it makes: bundles, runc's state, the socket for events; nothing of it stays."""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage

from harness import janitor, peers, sink
from shim.proto.runc_options_pb2 import Options

NAMESPACE = "bench"
LIVES = ["sleep", "1000"]
"""What a container runs that is only there."""


@dataclass(frozen=True, slots=True)
class Bundle:
    id: str
    folder: Path
    log_fd: int

    def logged(self) -> str:
        """What a shim has written since the last time into its log, the FIFO that containerd gives it."""
        with suppress(BlockingIOError):
            return os.read(self.log_fd, 1 << 20).decode()
        return ""


@dataclass(frozen=True, slots=True)
class Streams:
    """`fields` are for Create; the first of `readers` is that of stdout."""

    fields: dict[str, object]
    readers: list[int]

    def read(self, size: int) -> None:
        """That much is read from stdout, into memory, as a client would."""
        # A FIFO that nobody has opened for writing yet is no end of output, so the first byte is waited for.
        select.select(self.readers[:1], [], [])
        space = memoryview(bytearray(min(size, 1 << 20)))
        while size > 0:
            got = os.readv(self.readers[0], [space])
            if not got:
                raise RuntimeError(f"output ends {size} bytes too early")
            size -= got

    def close(self) -> None:
        for reader in self.readers:
            os.close(reader)


class Workshop:
    """A folder below /run and what a containerd would have there. Close it; a janitor does what is left to do."""

    def __init__(self) -> None:
        self.folder = Path(f"/run/ocishim-bench-{secrets.token_hex(4)}")
        self.group = self.folder.name
        self.errors: list[str] = []
        self._janitor = subprocess.Popen(
            [sys.executable, janitor.__file__, str(self.folder), self.group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        (self.folder / NAMESPACE).mkdir(mode=0o700, parents=True)
        self.address = f"{self.folder}/containerd.sock"
        self.env = {
            **os.environ,
            "TTRPC_ADDRESS": f"{self.folder}/containerd.sock.ttrpc",
            "GRPC_ADDRESS": self.address,
            "NAMESPACE": NAMESPACE,
            "MAX_SHIM_VERSION": "2",
            "GOMAXPROCS": "2",
        }
        self.options = AnyMessage(
            type_url="containerd.runc.v1.Options",
            value=Options(binary_name=peers.runtime(), root=f"{self.folder}/runc").SerializeToString(),
        )
        self._config = json.loads((peers.TOP / "bundles/readonly/config.json").read_text())
        self._sink = subprocess.Popen(
            [sys.executable, sink.__file__, self.env["TTRPC_ADDRESS"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the benchmarks; this ends with its stdin
            text=True,
        )
        self._sink.stdout.readline()

    def bundle(self, args: list[str] = LIVES, *, terminal: bool = False, pod: str = "") -> Bundle:
        """A new bundle that runs `args`; those of one `pod` share a shim."""
        name = secrets.token_hex(6)
        folder = self.folder / NAMESPACE / name
        (folder / "work").mkdir(parents=True)
        config = self._config | {
            "process": self._config["process"] | {"args": args, "terminal": terminal},
            "root": {"path": str(peers.TOP / "bundles/rootfs"), "readonly": True},
            "hostname": name,
            "annotations": {"io.kubernetes.cri.sandbox-id": pod} if pod else {},
        }
        # By this the janitor knows a container's processes.
        config["process"]["env"] = [*config["process"]["env"], f"BENCH={self.folder}"]
        config["linux"] = config["linux"] | {"cgroupsPath": f"/{self.group}/{name}"}
        (folder / "config.json").write_text(json.dumps(config))
        os.mkfifo(folder / "log")
        return Bundle(name, folder, os.open(folder / "log", os.O_RDWR | os.O_NONBLOCK))

    def events(self) -> int:
        """How many have come up to now."""
        return int(self._ask(""))

    def event_time(self, count: int) -> float:
        """When event number `count` has come, in time.perf_counter's time; waits for it."""
        return float(self._ask(str(count)))

    def _ask(self, line: str) -> str:
        self._sink.stdin.write(f"{line}\n")
        self._sink.stdin.flush()
        return self._sink.stdout.readline()

    def streams(self, *, terminal: bool = False) -> Streams:
        """New FIFOs for what a container writes, as wide as the kernel makes them for everybody."""
        names = ["stdout"] if terminal else ["stdout", "stderr"]
        fields: dict[str, object] = {name: f"{self.folder}/{name}-{secrets.token_hex(4)}" for name in names}
        for path in fields.values():
            os.mkfifo(str(path))
        readers = [os.open(str(path), os.O_RDONLY | os.O_NONBLOCK) for path in fields.values()]
        os.set_blocking(readers[0], True)
        return Streams(fields | {"terminal": terminal}, readers)

    def close(self) -> list[str]:
        """Everything is gone; returns the commands of processes that should have ended before."""
        self._sink.communicate()
        killed, _ = self._janitor.communicate()
        # A template outlives, on purpose, those for whom it was started.
        return [command for command in killed.splitlines() if " template " not in command]
