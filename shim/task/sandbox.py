"""A sandbox: what the containers of a pod share. Namespaces, held by a process that does nothing; or gVisor's kernel.

Which of the two, the runtime of the pod decides: gVisor's containers are in a kernel of their own, and need none of the
host's namespaces but the network's.

    created --start--> ready --stop, or its process dies--> stopped --shutdown--> gone

What is needed to clear it away without its shim is ``sandbox.json`` in its bundle. containerd's ``delete`` is told of the
sandbox alone, and the bundles of its containers may be gone by then, so the record holds copies of theirs.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.errors import FailedPrecondition, NotFound, Unimplemented
from shim.process.holder import hold, kill_holder, start_time
from shim.process.thread import in_thread
from shim.runtime import driver_for
from shim.store import records
from shim.task.bundle import Bundle
from shim.task.pod_files import PodFiles
from shim.task.pod_kernel import PodKernel
from shim.task.remains import clear, remembered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shim.cgroup.hierarchy import Hierarchy
    from shim.process import Child, Exit, Reaper
    from shim.runtime import Driver
    from shim.task.request import CreateRequest
    from shim.task.sandbox_request import SandboxRequest
    from shim.task.workshop import Workshop

__all__ = ["Sandbox", "clear_sandbox"]

_RECORD = "sandbox.json"
_FILES = "pod"
_KERNEL = "kernel"
_REAPED_S = 1.0
_LOOK_AGAIN_S = 0.01


class Sandbox:
    """One sandbox. Its process ends when it is stopped, and only then, unless somebody else ends it."""

    def __init__(self, request: SandboxRequest, shop: Workshop) -> None:
        self.request = request
        maps = request.namespaces.user
        self.files = PodFiles(
            Path(request.bundle, _FILES),
            request.namespaces.hostname if request.namespaces.uts else "",
            request.resolv_conf,
            shared_memory=request.namespaces.ipc,
            owner=maps.root() if maps is not None else (0, 0),
        )
        self.created_at_ns = 0
        self._shop = shop
        self._holder: Child | PodKernel | None = None
        self._starting = False

    @property
    def id(self) -> str:
        """Its id, which is the pod's."""
        return self.request.id

    @property
    def pid(self) -> int:
        """The process in ``/proc/<pid>/ns`` of which containers find the namespaces; 0 before the start."""
        return self._holder.pid if self._holder is not None else 0

    @property
    def exit(self) -> Exit | None:
        """How its process ended; None while it has not."""
        return self._holder.exit if self._holder is not None else None

    @property
    def ready(self) -> bool:
        """Whether containers can be made in it."""
        return self._holder is not None and self._holder.exit is None

    @property
    def own_kernel(self) -> bool:
        """Whether it is gVisor's."""
        return isinstance(self._holder, PodKernel)

    @property
    def lost(self) -> bool:
        """Whether nothing runs of it, and its bundle is gone."""
        return not self.ready and not Path(self.request.bundle).exists()

    async def start(self) -> None:
        """The namespaces or the kernel, and the files, exist.

        Raises:
            FailedPrecondition: it was started before.
            NotFound: its network namespace does not exist, or its runtime.
            ShimError: the kernel or the runtime refuses.
        """
        if self._starting or self._holder is not None:
            raise FailedPrecondition(f"sandbox {self.id} was started already")
        self._starting = True
        try:
            # Now, because gVisor takes its time: what is made of it is found by this.
            self.remember(())
            await in_thread(self.files.make)
            self._holder = await self._hold()
        except BaseException:
            await self._forget()
            raise
        finally:
            self._starting = False
        self.created_at_ns = time.time_ns()
        self.remember(())

    async def _hold(self) -> Child | PodKernel:
        driver = await driver_for(self.request.config, self._shop.namespace, self._shop.reaper)
        if not driver.waits_by_command:
            return await hold(self._shop.reaper, self.request.namespaces)
        if self.request.namespaces.user is not None:
            raise Unimplemented("gVisor makes no pod with a user namespace of its own: runc and crun do")
        return await PodKernel.start(self._shop, self.request, Path(self.request.bundle, _KERNEL))

    def configured(self, request: CreateRequest) -> CreateRequest:
        """``request`` of a container in here: with the sandbox's configuration, if it has no options of its own."""
        return (
            replace(request, config=self.request.config) if request.config == self._shop.config else request
        )

    def laid_into(self, raw: Mapping[str, Any], driver: Driver) -> dict[str, Any]:
        """The config.json ``raw`` of a container in here, which ``driver`` will run.

        Raises:
            FailedPrecondition: the runtime does not fit the sandbox's; or that is not ready.
        """
        if not self.ready:
            raise FailedPrecondition(f"sandbox {self.id} is not ready")
        if self.own_kernel != driver.waits_by_command:
            # A container in the host's kernel would get what keeps gVisor away from it: its namespaces.
            kind = "is gVisor's" if self.own_kernel else "is not gVisor's"
            raise FailedPrecondition(
                f"sandbox {self.id} {kind}: no container in it can run under {driver.kind}"
            )
        laid = self.files.laid_into(raw)
        if self.own_kernel:
            laid["annotations"] = {**(raw.get("annotations") or {}), **self.request.annotations("container")}
        return laid

    async def stop(self) -> None:
        """Its process has ended. Right in any state."""
        if self._holder is None:
            return
        if isinstance(self._holder, PodKernel):
            self._holder.kill()
        else:
            with suppress(ProcessLookupError):
                self._holder.send_signal(signal.SIGKILL)
        await self._holder.wait()

    async def wait(self) -> Exit:
        """How its process ended, once it has.

        Raises:
            FailedPrecondition: it has not been started.
        """
        if self._holder is None:
            raise FailedPrecondition(f"sandbox {self.id} has not been started")
        return await self._holder.wait()

    def remember(self, bundles: Iterable[str]) -> None:
        """Write down what ``clear_sandbox`` will need; ``bundles`` are those of its containers."""
        containers = {path: remembered(Bundle(Path(path))) for path in sorted(bundles)}
        record = {"pid": self.pid, "started": start_time(self.pid), "containers": containers}
        records.save(Path(self.request.bundle, _RECORD), record, synced=False)

    async def remove(self) -> None:
        """Its files are gone, and nothing is left to clear away.

        Raises:
            ShimError: the runtime could not delete its kernel; it can be tried again.
        """
        if isinstance(self._holder, PodKernel):
            await self._holder.remove()
        await self._forget()

    async def _forget(self) -> None:
        await in_thread(self._remove_files, always=True)
        await records.adelete(Path(self.request.bundle, _RECORD), synced=False)

    def _remove_files(self) -> None:
        self.files.remove()
        shutil.rmtree(Path(self.request.bundle, _KERNEL), ignore_errors=True)


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

    # First: with gVisor's kernel all end that it runs, also when the runtime hangs.
    if record["pid"]:
        await _end(record["pid"], record["started"])
    copies = {**record["containers"], str(bundle.path / _KERNEL): None}
    results = await asyncio.gather(
        *(
            clear(Bundle(Path(path)), reaper, hierarchy, runtime_timeout_s, copy)
            for path, copy in copies.items()
        ),
        return_exceptions=True,
    )
    PodFiles(bundle.path / _FILES).remove()
    if failures := [result for result in results if isinstance(result, BaseException)]:
        raise failures[0]
    records.delete(file)


async def _end(pid: int, started: int) -> None:
    kill_holder(pid, started)
    # gVisor takes a zombie for alive, and it is not ours to reap.
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAPED_S):
            while start_time(pid) == started:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(_LOOK_AGAIN_S)
