"""A container: its init, its execs, its cgroup, and what is asked of it.

Two locks: each process has one for Start and Delete, and the container one for Pause, Resume and Update. None is held
while answering State, Wait, Pids, Stats or Kill: those must work while a runtime hangs. A Delete ends a Start that does.

How it is made is in ``creation``, how it ends in ``ending``.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import AlreadyExists, FailedPrecondition, NotFound, ShimError
from shim.oci import process as oci_process
from shim.oci.identifiers import validate_id
from shim.oci.resources import merge
from shim.oci.spec import to_json
from shim.process.thread import in_thread
from shim.stdio import IOSettings, ProcessIO
from shim.task import events
from shim.task.bundle import Bundle, short_directory
from shim.task.checkpoint import leave_note, work_directory
from shim.task.ending import Ending
from shim.task.exec_process import ExecProcess
from shim.task.init_process import InitProcess
from shim.task.member_process import MemberProcess
from shim.task.remains import forget
from shim.task.states import State

if TYPE_CHECKING:
    from shim.cgroup.stats import Stats
    from shim.linux.pty import Winsize
    from shim.oci.spec import Spec
    from shim.process import Exit
    from shim.runtime import CheckpointOptions, Driver
    from shim.stdio import Streams
    from shim.task.control_group import ControlGroup
    from shim.task.process import TaskProcess
    from shim.task.request import CreateRequest
    from shim.task.workshop import Workshop

__all__ = ["Container"]


class Container:
    """One container of a shim. Made by ``creation.create``; after ``delete`` nothing of it is left but what the caller holds."""

    def __init__(
        self, shop: Workshop, request: CreateRequest, spec: Spec, driver: Driver, group: ControlGroup
    ) -> None:
        self.id = request.id
        self.bundle = Bundle(Path(request.bundle))
        self.config = request.config
        self.driver = driver
        self.spec = spec
        self.limits = spec.resources
        """The LinuxResources in force."""
        self.group = group
        self.created_at_ns = time.time_ns()
        self.started_at_ns: int | None = None
        self.execs: dict[str, ExecProcess] = {}
        self._shop = shop
        self._mounted = bool(request.rootfs)
        self._settings = IOSettings(
            container_id=request.id,
            namespace=shop.namespace,
            console_parent=short_directory(request.config.state_root),
            uid=request.config.io_uid,
            gid=request.config.io_gid,
            fifo_timeout_s=request.config.fifo_timeout,
            logger_timeout_s=request.config.logger_timeout,
            drain_timeout_s=request.config.drain_timeout,
        )
        io = ProcessIO(request.id, request.streams, self._settings, shop.copier, shop.reaper)
        joins = driver.joins_sandbox(spec.annotations)
        kind = MemberProcess if joins else InitProcess
        self.init = kind(request.id, io, driver, self._init_ended, request.restore_from)
        self._never_paused = False
        """Whether the init was killed while it was paused or about to be: from then on its group stays thawed."""
        self._lock = asyncio.Lock()
        # gVisor's processes end with their kernel, where that is the container's own.
        leaves = spec.pid_namespace != "private" and (joins or not driver.waits_by_command)
        rest = self._kill_rest if leaves else None
        self._ending = Ending(shop, self.id, self.bundle, group, self.execs, kill_rest=rest)

    async def create(self) -> None:
        """The init waits for Start, unless that restores it from a checkpoint.

        Raises:
            ShimError: it cannot be made; nothing of it is left.
        """
        await self.init.create(self._shop, self.bundle)
        if self.init.restores:
            return
        try:
            self._attach()
        except BaseException:
            await self.init.discard()
            raise

    async def forget(self) -> None:
        """Nothing is known of it on disk, unless the runtime could not unmake it: then whoever deletes it there needs it."""
        if not self.init.left_behind:
            await forget(self.bundle)

    @property
    def pid(self) -> int:
        """The init's pid on the host."""
        return self.init.pid

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel killed in it for want of memory; known once the init has ended."""
        return self._ending.oom_killed

    @property
    def runs(self) -> bool:
        """Whether its init has been started and has not ended."""
        return self.init.state not in {State.CREATED, State.STOPPED}

    @property
    def lost(self) -> bool:
        """Whether its init does not run, and its bundle is gone."""
        return not self.runs and not self.bundle.path.exists()

    @property
    def changing(self) -> bool:
        """Whether it is being paused, resumed, updated or written to an image."""
        return self._lock.locked()

    def process(self, exec_id: str = "") -> TaskProcess:
        """The init, or the exec of that id.

        Raises:
            NotFound: there is no such exec.
        """
        if not exec_id:
            return self.init
        if (found := self.execs.get(exec_id)) is None:
            raise NotFound(f"process does not exist {exec_id}")
        return found

    async def start(self, exec_id: str = "") -> int:
        """Run the init, or a registered exec; returns its pid on the host.

        Raises:
            FailedPrecondition: wrong state, or an exec whose container has ended.
            ShimError: the runtime could not.
        """
        process = self.process(exec_id)
        async with process.for_start():
            if isinstance(process, ExecProcess):
                self._check_alive()
                self._shop.migration.expect()
                pid = await process.start(self._shop, self.driver, self.bundle)
                self._shop.publish(events.ExecStarted(self.id, exec_id, pid))
                return pid
            if self.init.restores:
                pid = await self.init.restore(self._shop, self.bundle)
                self._attach()
            else:
                pid = await self.init.start()
            self.started_at_ns = time.time_ns()
            self._shop.publish(events.TaskStarted(self.id, pid))
            return pid

    def add_exec(self, exec_id: str, spec: bytes, streams: Streams) -> None:
        """Register a process, which Start will run; ``spec`` is an OCI Process as JSON.

        Raises:
            AlreadyExists: the id is taken.
            FailedPrecondition: the container is paused or has ended.
            InvalidArgument: the id, the process or a stream is not valid.
        """
        validate_id(exec_id, "exec id")
        if exec_id in self.execs or exec_id == self.id:
            raise AlreadyExists(f"id {exec_id}")
        self.init.machine.check("exec in")
        parsed = oci_process.parse(spec, f"process of exec {exec_id}")
        io = ProcessIO(f"{self.id}/{exec_id}", streams, self._settings, self._shop.copier, self._shop.reaper)
        self.execs[exec_id] = ExecProcess(self.id, exec_id, parsed, io, self._ending.exec_ended)
        self._shop.migration.expect()
        self._shop.publish(events.ExecAdded(self.id, exec_id))

    async def wait(self, exec_id: str = "") -> Exit:
        """The exit, once it is recorded."""
        return await self.process(exec_id).wait()

    async def delete(self, exec_id: str = "") -> tuple[int, Exit | None]:
        """The process is gone for good; returns its pid, and its exit unless it never ran.

        Raises:
            FailedPrecondition: it is running.
            ShimError: the runtime could not delete it; it can be tried again.
        """
        process = self.process(exec_id)
        async with process.after_start():
            if isinstance(process, ExecProcess):
                ended = await process.delete()
                self._ending.tell(process)
                self.execs.pop(exec_id, None)
                return process.pid, ended
            await self._delete_init()
            self._ending.tell(process)
            self._shop.publish(events.TaskDeleted(self.id, process.pid, process.exit))
            return process.pid, process.exit

    async def kill(self, number: int, exec_id: str = "", *, all_processes: bool = False) -> None:
        """Signal the init, an exec, or every process of the container.

        Raises:
            FailedPrecondition: an exec that has not been started.
            NotFound: it has ended.
        """
        process = self.process(exec_id)
        if isinstance(process, ExecProcess):
            await process.kill(self.driver, number)
            return
        ends_paused = number == signal.SIGKILL and self.init.state in {State.PAUSING, State.PAUSED}
        if ends_paused and self.driver.waits_by_command:
            # gVisor does not signal a container that is paused.
            with suppress(ShimError):
                await self.driver.resume(self.id)
        if all_processes:
            await self._kill_all(number)
        else:
            await self.init.kill(number)
        if ends_paused:
            # A v1 freezer holds even processes that were killed; v2 lets them die.
            self._never_paused = True
            self.group.thaw()

    def pids(self) -> dict[int, str]:
        """Every process of the container by its pid on the host, with the id of the exec where it is one."""
        ids = {
            process.pid: name for name, process in self.execs.items() if process.exit is None and process.pid
        }
        if not self.pid:
            return {}
        if self.init.state is State.STOPPED:
            # A containerd that comes back takes a shim without processes for one that was never used, clears it away, and
            # never learns how the container ended. Until the delete its init counts, as a zombie would.
            return {self.pid: ""}
        if self.driver.waits_by_command:
            return {pid: ids.get(pid, "") for pid in (self.pid, *ids)}
        return {pid: ids.get(pid, "") for pid in self.group.pids() or (self.pid, *ids)}

    def statistics(self) -> Stats:
        """What the container uses, from the files of its cgroup.

        Raises:
            NotFound: it has no cgroup, or its cgroup is gone.
        """
        return self.group.statistics()

    async def pause(self) -> None:
        """Every process of the container is frozen.

        Raises:
            FailedPrecondition: it is not running.
        """
        async with self._lock:
            self.init.machine.check("pause")
            self.init.machine.move(State.PAUSING)
            try:
                await self._execs_started()
                await self.driver.pause(self.id)
            except BaseException:
                if self.init.state is State.PAUSING:
                    self.init.machine.move(State.RUNNING)
                raise
            if self._never_paused:
                self.group.thaw()
            if self.init.state is State.PAUSING:
                self.init.machine.move(State.PAUSED)
                self._shop.publish(events.TaskPaused(self.id))

    async def resume(self) -> None:
        """Every process of the container runs again.

        Raises:
            FailedPrecondition: it is not paused.
        """
        async with self._lock:
            self.init.machine.check("resume")
            await self.driver.resume(self.id)
            if self.init.state is State.PAUSED:
                self.init.machine.move(State.RUNNING)
                self._shop.publish(events.TaskResumed(self.id))

    async def update(self, resources: dict[str, object]) -> None:
        """The limits in ``resources`` (a LinuxResources) hold from now on; others stay.

        Raises:
            FailedPrecondition: the container has ended.
            InvalidArgument: a limit is not valid.
        """
        async with self._lock:
            self.init.machine.check("update")
            if not self.group.apply(resources):
                await self.driver.update(self.id, to_json(resources))
            self.limits = merge(self.limits, resources)

    async def checkpoint(self, options: CheckpointOptions) -> None:
        """The container's state is an image in ``options.image_path``; it has ended unless ``leave_running``.

        Raises:
            FailedPrecondition: it is not running.
            ShimError: the runtime could not.
        """
        async with self._lock:
            self.init.machine.check("checkpoint")
            with work_directory(self.bundle, options, "dump") as place:
                await self.driver.checkpoint(self.id, place)
            await in_thread(leave_note, options, always=True)
            self._shop.publish(events.TaskCheckpointed(self.id, options.image_path))

    def resize(self, size: Winsize, exec_id: str = "") -> None:
        """A terminal has ``size``, now or as soon as there is one."""
        self.process(exec_id).resize(size)

    def close_stdin(self, exec_id: str = "") -> None:
        """The process sees the end of its stdin once the clients' writers are closed, too."""
        self.process(exec_id).io.close_stdin()

    def _init_ended(self, ended: Exit) -> None:
        self._ending.init_ended(self.init, ended)

    def _attach(self) -> None:
        self.group.attach(self.pid, self._tell_oom)

    def _check_alive(self) -> None:
        if self.init.state in {State.STOPPED, State.DELETED}:
            raise FailedPrecondition(f"container {self.id} init process is not running")
        self.init.machine.check("exec in")

    async def _delete_init(self) -> None:
        self.init.machine.check("delete")
        if self.init.state is State.STOPPED and not self.driver.waits_by_command:
            # Runtimes give up after a moment on a group in which something lives, and take a frozen one for a container
            # that is paused, though it may have ended while it was being paused.
            self.group.thaw()
            await self.group.clear()
        await self.init.delete()
        await asyncio.gather(*(self._leave(process) for process in self.execs.values()))
        self.execs.clear()
        await self.group.remove()
        if self._mounted:
            await self.bundle.unmount_rootfs()
        await forget(self.bundle)
        self.init.forget()

    async def _leave(self, process: ExecProcess) -> None:
        async with process.after_start():
            await process.leave()

    async def _kill_all(self, number: int) -> None:
        self.init.machine.check("kill")
        if self.driver.waits_by_command and self.init.state is State.CREATED:
            # There is nothing but the init yet, which the runtime itself refuses to signal.
            await self.init.kill(number)
        elif self.driver.waits_by_command or not self.group.kill_all(number):
            await self.driver.kill(self.id, number, all_processes=True)

    async def _kill_rest(self) -> None:
        if self.driver.waits_by_command:
            # Which fails when the kernel has ended, too.
            with suppress(ShimError):
                await self.driver.kill(self.id, signal.SIGKILL, all_processes=True)
        else:
            self.group.kill_all(signal.SIGKILL)

    async def _execs_started(self) -> None:
        # A process that is on its way into a group that freezes freezes as well, and its runtime waits for it until it is
        # killed at its deadline. No further exec starts while the state is pausing.
        for process in list(self.execs.values()):
            async with process.lock:
                pass

    def _tell_oom(self) -> None:
        self._shop.publish(events.TaskOom(self.id))
