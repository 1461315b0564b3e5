"""A containerd of a test's own: its own configuration, root, state and socket; nothing of the host's is touched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from functools import cache
from pathlib import Path

from support import bed, images, templates

RUNTIME = "io.containerd.ocishim.v2"
IMAGE = images.BUSYBOX
_START_S = 30.0


@cache
def series() -> str:
    """Of the containerd that is here: 1.6, 1.7, or 2."""
    done = subprocess.run(["containerd", "--version"], stdout=subprocess.PIPE, check=True, text=True)
    found = re.search(r" v?(\d+)\.(\d+)\.", done.stdout)
    assert found is not None, done.stdout
    return found[1] if int(found[1]) > 1 else f"{found[1]}.{found[2]}"


class Containerd:
    """One daemon; ``start`` and ``kill`` as often as a test likes. ``folder`` is on /run, for short socket paths."""

    namespace = "default"
    disabled: tuple[str, ...] = (
        "io.containerd.grpc.v1.cri",
        "io.containerd.snapshotter.v1.blockfile",
        "io.containerd.snapshotter.v1.btrfs",
        "io.containerd.snapshotter.v1.zfs",
        "io.containerd.snapshotter.v1.devmapper",
        "io.containerd.tracing.processor.v1.otlp",
    )

    def __init__(self, folder: Path, disk: Path) -> None:
        self.folder = folder
        self.disk = disk
        self.socket = folder / "containerd.sock"
        self.log = disk / "containerd.log"
        self.shim_config = folder / "ocishim.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self.shim_config.write_text(f'state_root = "{folder}/ocishim"\n')
        (folder / "config.toml").write_text(self.configuration())

    def configuration(self) -> str:
        """Its config.toml, in the version that all of 1.6 to 2.x read."""
        return (
            f'version = 2\nroot = "{self.disk}/root"\nstate = "{self.folder}/state"\n'
            f"disabled_plugins = {list(self.disabled)}\n"
            f'[grpc]\n  address = "{self.socket}"\n[ttrpc]\n  address = "{self.socket}.ttrpc"\n'
            f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{self.disk}/opt"\n'
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """The daemon answers."""
        env = {**os.environ, "OCISHIM_CONFIG": str(self.shim_config)}
        env["PATH"] = f"{templates.installed()}:{env['PATH']}"
        env["PYTHONPATH"] = str(bed.CHECKOUT)
        # Shims start from compiled modules, as installed ones do, whatever this process was told.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.program(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
            )
        deadline = time.monotonic() + _START_S
        while self.ctr("version", check=False).returncode:
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def program(self) -> list[str]:
        """What ``start`` executes."""
        return ["containerd", "--config", str(self.folder / "config.toml")]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """The daemon is gone; shims and containers are not."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)
        self._process = None

    def close(self) -> None:
        """Nothing runs any more."""
        if self._process is not None:
            for task in self.ctr("task", "list", "-q").stdout.split():
                self.ctr("task", "rm", "-f", task, check=False)
            for container in self.ctr("container", "list", "-q").stdout.split():
                self.ctr("container", "rm", container, check=False)
            self.kill(signal.SIGTERM)

    def command(self, *args: str) -> list[str]:
        """``ctr`` for this daemon."""
        return ["ctr", "--address", str(self.socket), "--namespace", self.namespace, *args]

    def ctr(self, *args: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """What ``ctr`` did."""
        done = subprocess.run(
            self.command(*args),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"ctr {' '.join(args)}\n{done.stdout}{done.stderr}"
        return done

    def run(
        self, name: str, *command: str, options: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """``ctr run`` of our runtime."""
        return self.ctr("run", "--runtime", RUNTIME, *options, IMAGE, name, *command, check=check)

    def import_image(self) -> None:
        """All images are there."""
        archive = self.disk / "image.tar"
        archive.write_bytes(images.archive())
        self.ctr("image", "import", str(archive))

    def running(self) -> list[str]:
        """The names of the containers that run."""
        table = self.ctr("task", "list").stdout.splitlines()[1:]
        return [line.split()[0] for line in table if "RUNNING" in line]

    def pids(self) -> dict[str, int]:
        """The inits of all containers, by name."""
        table = self.ctr("task", "list").stdout.splitlines()[1:]
        return {words[0]: int(words[1]) for words in map(str.split, table)}

    def shims(self) -> list[int]:
        """The pids of the shim processes that serve this daemon."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if b"shim.bootstrap" in words and os.fsencode(f"OCISHIM_CONFIG={self.folder}/") in environment:
                found.append(int(folder.name))
        return found
