"""Containers without a shim: the runtime called by hand, and conmon, which Podman and CRI-O start for each container.

conmon is no server: it creates the container, copies its output into a log, writes how it ended into a file, and ends.
All else the runtime does for its caller. Source: conmon(8), conmon src/conmon.c for the pipe on which it tells the pid.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from harness import peers
from harness.process import ended

if TYPE_CHECKING:
    from harness.workshop import Bundle, Workshop

_NULL = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
_SYNC_FD = 3


class Bare:
    """A container that the runtime has created."""

    def __init__(self, workshop: Workshop, bundle: Bundle) -> None:
        self.workshop, self.bundle, self.id = workshop, bundle, bundle.id
        self.pid_file = bundle.folder / "init.pid"
        self._create()

    def _create(self) -> None:
        self._runc("create", "--bundle", str(self.bundle.folder), "--pid-file", str(self.pid_file), self.id)
        self._pidfd = os.pidfd_open(int(self.pid_file.read_text()))

    def start(self) -> None:
        self._runc("start", self.id)

    def kill(self) -> None:
        self._runc("kill", self.id, "KILL")

    def delete(self) -> None:
        """Ended, which is waited for, and deleted."""
        _wait(self._pidfd)
        self._runc("delete", self.id)
        os.close(self._pidfd)
        os.close(self.bundle.log_fd)

    def _runc(self, *words: str) -> None:
        self._run([peers.runtime(), "--root", f"{self.workshop.folder}/runc", *words])

    def _run(self, argv: list[str], *actions: tuple[int, ...], **env: str) -> None:
        pid = os.posix_spawn(argv[0], argv, self.workshop.env | env, file_actions=[*_NULL, *actions])
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(f"{argv} fails")


class Conmon(Bare):
    """A container that conmon has created and watches; `pid` is conmon's."""

    def _create(self) -> None:
        folder, monitor = self.bundle.folder, self.bundle.folder / "conmon.pid"
        self.log = folder / "ctr.log"
        argv = [
            peers.conmon(),
            "--cid",
            self.id,
            "--cuuid",
            self.id,
            "--name",
            self.id,
            "--bundle",
            str(folder),
        ]
        argv += ["--runtime", peers.runtime(), "--runtime-arg", "--root"]
        argv += ["--runtime-arg", f"{self.workshop.folder}/runc", "--log-path", f"k8s-file:{self.log}"]
        argv += ["--container-pidfile", str(self.pid_file), "--conmon-pidfile", str(monitor)]
        argv += ["--exit-dir", str(folder), "--socket-dir-path", str(self.workshop.folder)]
        reader, writer = os.pipe()
        with os.fdopen(reader) as sync:
            try:
                self._run(argv, (os.POSIX_SPAWN_DUP2, writer, _SYNC_FD), _OCI_SYNCPIPE=str(_SYNC_FD))
            finally:
                os.close(writer)
            told = json.loads(sync.readline())
        if told["pid"] <= 0:
            raise RuntimeError(f"conmon: {told}")
        self.pid = int(monitor.read_text())
        self._monitor = os.pidfd_open(self.pid)
        self._pidfd = os.pidfd_open(told["pid"])

    def wait(self) -> None:
        """The container has ended, its output is in the log, and conmon has ended."""
        _wait(self._monitor)

    def delete(self) -> None:
        self.wait()
        os.close(self._monitor)
        super().delete()


def _wait(pidfd: int) -> None:
    if not ended(pidfd):
        raise RuntimeError("a process does not end")
