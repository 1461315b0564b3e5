"""A sandbox: the namespaces that the containers of a pod share, held by a process that does nothing.

    created --start--> ready --stop, or its process dies--> stopped --shutdown--> gone

What is needed to clear it away without its shim is ``sandbox.json`` in its bundle. containerd's ``delete`` is told of the
sandbox alone, and the bundles of its containers may be gone by then, so the record holds copies of theirs.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, NotFound, ShimError
from shim.process.holder import Namespaces, hold, kill_holder, start_time
from shim.store import records
from shim.task.bundle import Bundle
from shim.task.pod_files import PodFiles
from shim.task.remains import clear, remembered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shim.cgroup.hierarchy import Hierarchy
    from shim.process import Child, Exit, Reaper

__all__ = ["SANDBOX_ANNOTATION", "Sandbox", "SandboxRequest", "clear_sandbox"]

SANDBOX_ANNOTATION = "io.kubernetes.cri.sandbox-id"
"""Names the sandbox in the config.json of its containers."""

_RECORD = "sandbox.json"
_FILES = "pod"


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """What CreateSandbox asks for, without the wire's types."""

    id: str
    bundle: str
    namespaces: Namespaces = field(default_factory=Namespaces)
    cgroup_parent: str = ""
    """The cgroup of the pod, whose containers are below it; empty when there is none."""
    resolv_conf: str = ""
    """What its containers have as /etc/resolv.conf; empty: the host's."""


class Sandbox:
    """One sandbox. Its process ends when it is stopped, and only then, unless somebody else ends it."""

    def __init__(self, request: SandboxRequest, reaper: Reaper) -> None:
        self.request = request
        self.files = PodFiles(
            Path(request.bundle, _FILES),
            request.namespaces.hostname if request.namespaces.uts else "",
            request.resolv_conf,
            shared_memory=request.namespaces.ipc,
        )
        self.created_at_ns = 0
        self._reaper = reaper
        self._child: Child | None = None
        self._starting = False

    @property
    def id(self) -> str:
        """Its id, which is the pod's."""
        return self.request.id

    @property
    def pid(self) -> int:
        """The process in ``/proc/<pid>/ns`` of which containers find the namespaces; 0 before the start."""
        return self._child.pid if self._child is not None else 0

    @property
    def exit(self) -> Exit | None:
        """How its process ended; None while it has not."""
        return self._child.exit if self._child is not None else None

    @property
    def ready(self) -> bool:
        """Whether containers can be made in it."""
        return self._child is not None and self._child.exit is None

    async def start(self) -> None:
        """The namespaces and files exist.

        Raises:
            FailedPrecondition: it was started before.
            NotFound: its network namespace does not exist.
            ShimError: the kernel refuses.
        """
        if self._starting or self._child is not None:
            raise FailedPrecondition(f"sandbox {self.id} was started already")
        self._starting = True
        try:
            await asyncio.to_thread(self.files.make)
            self._child = await hold(self._reaper, self.request.namespaces)
        except BaseException:
            await asyncio.to_thread(self.files.remove)
            raise
        finally:
            self._starting = False
        self.created_at_ns = time.time_ns()
        self.remember(())

    async def stop(self) -> None:
        """Its process has ended. Right in any state."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGKILL)
            await self._child.wait()

    async def wait(self) -> Exit:
        """How its process ended, once it has.

        Raises:
            FailedPrecondition: it has not been started.
        """
        if self._child is None:
            raise FailedPrecondition(f"sandbox {self.id} has not been started")
        return await self._child.wait()

    def remember(self, bundles: Iterable[str]) -> None:
        """Write down what ``clear_sandbox`` will need; ``bundles`` are those of its containers."""
        containers = {path: remembered(Bundle(Path(path))) for path in sorted(bundles)}
        record = {"pid": self.pid, "started": start_time(self.pid), "containers": containers}
        records.save(Path(self.request.bundle, _RECORD), record)

    async def remove(self) -> None:
        """Its files are gone, and nothing is left to clear away."""
        await asyncio.to_thread(self.files.remove)
        records.delete(Path(self.request.bundle, _RECORD))


async def clear_sandbox(
    bundle: Bundle, reaper: Reaper, hierarchy: Hierarchy, runtime_timeout_s: float | None = None
) -> None:
    """Of a sandbox whose bundle this is, and of its containers, no process, cgroup or mount is left.

    Nothing happens for the bundle of a container, and when it is done again.

    Raises:
        ShimError: a container could not be cleared away; the rest was.
    """
    file = bundle.path / _RECORD
    try:
        record = records.load(file)
    except NotFound:
        return
    failure: ShimError | None = None
    for path, copy in record["containers"].items():
        try:
            await clear(Bundle(Path(path)), reaper, hierarchy, runtime_timeout_s, copy)
        except ShimError as error:
            failure = error
    kill_holder(record["pid"], record["started"])
    PodFiles(bundle.path / _FILES).remove()
    if failure is not None:
        raise failure
    records.delete(file)
