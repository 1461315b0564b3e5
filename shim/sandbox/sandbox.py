"""A sandbox: containers that share a network, a name and their ipc, and what can be done to them while they run.

An object is a connection to the shim of the sandbox, and a view of its record; there may be any number of them, in any
number of processes. What changes the sandbox holds its lock. The state in the record is that of the sandbox; those of
containers and processes are the shim's.

Source: Kata's virtcontainers API (meaning of the calls), containerd's shim API (how they are done).
"""

from __future__ import annotations

import asyncio
import secrets
import signal as signals
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from shim.cgroup.hierarchy import detect
from shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ShimError, Unavailable
from shim.linux.pty import Winsize
from shim.net import NetworkNamespace
from shim.oci.identifiers import validate_id
from shim.process.thread import in_thread
from shim.sandbox import states
from shim.sandbox.devices import Devices
from shim.sandbox.monitor import Monitor
from shim.sandbox.remains import cgroup_of, clear_away
from shim.sandbox.spec import Place, container_spec
from shim.sandbox.states import State
from shim.sandbox.status import ContainerStatus, Process, SandboxStatus, container_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from google.protobuf.any_pb2 import Any as AnyMessage

    from shim.net import Interface, InterfaceConfig, Route
    from shim.sandbox.bundle import Bundle
    from shim.sandbox.config import ContainerConfig, SandboxConfig
    from shim.sandbox.devices import Device, DeviceConfig
    from shim.sandbox.record import Record, SandboxDirectory
    from shim.sandbox.shim_client import ShimClient
    from shim.sandbox.status import Failure
    from shim.sandbox.streams import IOStream

__all__ = ["Sandbox"]

_STOP_S = 10.0


class Sandbox:
    """One sandbox; made by ``create_sandbox`` and ``fetch_sandbox``, to be released."""

    def __init__(self, directory: SandboxDirectory, config: SandboxConfig, client: ShimClient | None) -> None:
        self.id = config.id
        self.config = config
        self._directory = directory
        self._client = client
        self._monitors: list[Monitor] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()

    def release(self) -> None:
        """This object is of no more use, its monitors end; the sandbox goes on."""
        for monitor in self._monitors:
            monitor.close()
        if self._client is not None:
            self._client.close()

    @property
    def netns(self) -> str:
        """The file of its network namespace; empty where its network is the host's."""
        return "" if self.config.host_network else self._directory.netns

    @property
    def _shim(self) -> ShimClient:
        if self._client is None or self._client.closed:
            raise Unavailable(f"the shim of sandbox {self.id} is gone; delete the sandbox")
        return self._client

    # The sandbox.

    async def status(self) -> SandboxStatus:
        """It and its containers as they are now."""
        record = self._directory.load()
        pid, note, state = 0, "", record.state
        containers: list[ContainerStatus] = []
        try:
            pid = await self._shim.sandbox_pid()
            containers = [await self.status_container(name) for name in self._directory.container_ids()]
        except Unavailable:
            state, note = State.STOPPED, f"the shim of {self._named} is gone; what it left goes with delete"
        return SandboxStatus(
            self.id,
            state,
            self.config.runtime,
            pid,
            self.netns,
            tuple(containers),
            self.config.annotations,
            note,
        )

    async def pause(self) -> None:
        """Every process in it is frozen; monitors end.

        Raises:
            FailedPrecondition: it is not running.
        """
        async with self._directory.exclusive() as record:
            paused = states.moved(self._named, record.state, State.PAUSED)
            # Written first: whoever dies half way leaves what resume() puts right.
            await self._directory.save(replace(record, state=paused))
            for monitor in self._monitors:
                monitor.close()
            try:
                for name in await self._in_state(State.RUNNING):
                    await self._shim.pause(name)
            except BaseException:
                await self._thaw(record)
                raise

    async def resume(self) -> None:
        """Every process in it goes on, those too whose container was paused alone.

        Raises:
            FailedPrecondition: it is not paused.
        """
        async with self._directory.exclusive() as record:
            states.check(self._named, record.state, State.PAUSED)
            await self._thaw(record)

    async def _thaw(self, record: Record) -> None:
        for name in await self._in_state(State.PAUSED):
            await self._shim.resume(name)
        await self._directory.save(replace(record, state=State.RUNNING))

    async def stop(self) -> None:
        """Nothing runs in it any more. Right when it is done again."""
        async with self._directory.exclusive() as record:
            if record.state is not State.STOPPED:
                await self._shim.stop_sandbox()
                await self._directory.save(replace(record, state=State.STOPPED))

    async def delete(self) -> None:
        """It is gone, with its containers, its network, and all that was kept of it.

        Raises:
            FailedPrecondition: it is running.
            ShimError: something stays; it can be tried again.
        """
        async with self._directory.exclusive() as record:
            if (await self.status()).state is not State.STOPPED:
                states.check(self._named, record.state, State.READY, State.PAUSED, State.STOPPED)
            reachable = self._client is not None and not self._client.closed
            await clear_away(self._directory, self.config, self._client if reachable else None)
        self.release()

    def monitor(self) -> AsyncIterator[Failure]:
        """What goes wrong from now on; ends when the sandbox is paused, deleted or released.

        Raises:
            FailedPrecondition: it is not running.
        """
        states.check(self._named, self._directory.load().state, State.RUNNING)
        monitor = Monitor(self.id, self._shim)
        for name in self._directory.container_ids():
            monitor.watch(name)
        self._monitors.append(monitor)
        return monitor.failures()

    # Its containers.

    async def create_container(self, config: ContainerConfig) -> ContainerStatus:
        """The container exists, its init waits for ``start_container``.

        Raises:
            AlreadyExists: the id is taken.
            FailedPrecondition: the sandbox is not running.
            ShimError: it cannot be made; nothing is left.
        """
        async with self._directory.exclusive() as record:
            states.check(self._named, record.state, State.RUNNING)
            place = Place(await self._shim.sandbox_pid(), self.netns, cgroup_of(self.config))
            bundle = self._directory.bundle(config.id)
            if bundle.exists:
                raise AlreadyExists(f"container {config.id} of {self._named} exists already")
            bundle.make(container_spec(config, self.config, place))
            try:
                stdin = config.stdin or config.terminal
                streams = bundle.fifos().make(stdin=stdin, stderr=not config.terminal)
                await self._shim.create(config.id, str(bundle.path), streams, terminal=config.terminal)
            except BaseException:
                bundle.remove()
                raise
        for monitor in self._monitors:
            monitor.watch(config.id)
        return await self.status_container(config.id)

    async def start_container(self, container_id: str) -> Process:
        """Its init runs.

        Raises:
            NotFound: there is no such container.
            FailedPrecondition: the sandbox is not running, or the container is not ready.
        """
        async with self._directory.exclusive() as record:
            await self._check_container(record, container_id, State.READY)
            pid = await self._shim.start(container_id)
        return Process(container_id, pid, (await self.status_container(container_id)).started_at)

    async def stop_container(self, container_id: str, *, grace_s: float = _STOP_S) -> int:
        """Its init has ended: by SIGTERM, after ``grace_s`` seconds by SIGKILL to all of it. Returns the exit status."""
        self._known(container_id)
        if (await self.status_container(container_id)).state in {State.RUNNING, State.READY}:
            await self._quietly_kill(container_id, signals.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    return await self._shim.wait(container_id)
            except TimeoutError:
                pass
        await self._quietly_kill(container_id, signals.SIGKILL, everything=True)
        return await self._shim.wait(container_id)

    async def kill_container(self, container_id: str, signal: int, *, all_processes: bool = False) -> None:
        """The signal was sent to its init, or to all of it.

        Raises:
            NotFound: there is no such container, or its init has ended.
        """
        self._known(container_id)
        await self._shim.kill(container_id, "", signal, all_processes=all_processes)

    async def delete_container(self, container_id: str) -> None:
        """Nothing is left of it.

        Raises:
            NotFound: there is no such container.
            FailedPrecondition: it runs, or is paused.
        """
        async with self._directory.exclusive():
            status = await self.status_container(container_id)
            states.check(f"container {container_id}", status.state, State.READY, State.STOPPED)
            await self._shim.delete(container_id)
            self._directory.bundle(container_id).remove()

    async def status_container(self, container_id: str) -> ContainerStatus:
        """It as it is now.

        Raises:
            NotFound: there is no such container.
        """
        self._known(container_id)
        return container_status(await self._shim.inspect(container_id))

    async def pause_container(self, container_id: str) -> None:
        """Its processes are frozen."""
        self._known(container_id)
        await self._shim.pause(container_id)

    async def resume_container(self, container_id: str) -> None:
        """Its processes go on."""
        self._known(container_id)
        await self._shim.resume(container_id)

    async def update_container(self, container_id: str, resources: Mapping[str, Any]) -> None:
        """The limits in ``resources`` (LinuxResources) are in force; others stay."""
        self._known(container_id)
        await self._shim.update(container_id, resources)

    async def stats_container(self, container_id: str) -> AnyMessage:
        """What it uses: ``io.containerd.cgroups.v2.Metrics``, or ``v1``."""
        self._known(container_id)
        return await self._shim.stats(container_id)

    # Processes in them. A token is the container's id for its init, else what enter_container returned.

    async def enter_container(
        self,
        container_id: str,
        args: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str = "",
        user: str = "",
        terminal: bool = False,
        stdin: bool = False,
    ) -> Process:
        """``args`` run in the container, as its init does in everything else; ``user`` is ``UID`` or ``UID:GID``.

        Raises:
            InvalidArgument: it can be no process.
            NotFound: there is no such container.
            FailedPrecondition: the sandbox or the container is not running.
            ShimError: it cannot be run; nothing is left.
        """
        record = self._directory.load()
        await self._check_container(record, container_id, State.READY, State.RUNNING)
        token = secrets.token_hex(8)
        bundle = self._directory.bundle(container_id)
        process = bundle.process(args, env, cwd, user, terminal=terminal)
        fifos = bundle.fifos(token)
        streams = fifos.make(stdin=stdin or terminal, stderr=not terminal)
        try:
            await self._shim.exec(container_id, token, process, streams)
            try:
                pid = await self._shim.start(container_id, token)
            except BaseException:
                with suppress(ShimError):
                    await self._shim.delete(container_id, token)
                raise
        except BaseException:
            fifos.remove()
            raise
        return Process(token, pid, datetime.now(UTC).isoformat().replace("+00:00", "Z"))

    async def wait_process(self, container_id: str, token: str) -> int:
        """Its exit status, once it has ended. What ``enter_container`` started stays until ``delete_process``.

        Raises:
            NotFound: there is no such process.
        """
        self._known(container_id)
        return await self._shim.wait(container_id, self._exec_id(container_id, token))

    async def delete_process(self, container_id: str, token: str) -> None:
        """Nothing is left of what ``enter_container`` started, nor of its output, but for who has that open.

        Raises:
            NotFound: there is no such process.
            FailedPrecondition: it runs.
            InvalidArgument: it is the init; that goes with its container.
        """
        bundle = self._known(container_id)
        if not (exec_id := self._exec_id(container_id, token)):
            raise InvalidArgument(f"process {token} is the init of its container: delete the container")
        await self._shim.delete(container_id, exec_id)
        bundle.fifos(exec_id).remove()

    async def signal_process(
        self, container_id: str, token: str, signal: int, *, all_processes: bool = False
    ) -> None:
        """The signal was sent to the process; with ``all_processes`` to all of the container, whatever ``token`` is."""
        self._known(container_id)
        exec_id = "" if all_processes else self._exec_id(container_id, token)
        await self._shim.kill(container_id, exec_id, signal, all_processes=all_processes)

    async def winsize_process(self, container_id: str, token: str, height: int, width: int) -> None:
        """Its terminal has that many rows and columns."""
        self._known(container_id)
        await self._shim.resize(container_id, self._exec_id(container_id, token), Winsize(height, width))

    async def io_stream(self, container_id: str, token: str) -> IOStream:
        """Its streams, from anywhere, as often as one likes, one at a time; the caller closes them.

        Raises:
            NotFound: there is no such process.
        """
        return await self._known(container_id).fifos(self._exec_id(container_id, token)).open()

    async def close_stdin(self, container_id: str, token: str) -> None:
        """Its stdin ends as soon as what was written is read, and the writers that ``io_stream`` gave are closed."""
        self._known(container_id)
        await self._shim.close_stdin(container_id, self._exec_id(container_id, token))

    # What is plugged in while it runs.

    async def add_interface(self, config: InterfaceConfig) -> Interface:
        """All its containers have the interface, up and with its addresses.

        Raises:
            FailedPrecondition: its network is the host's; or it runs in gVisor, which looked at its interfaces at the start.
            ShimError: as ``NetworkNamespace.add_interface``; nothing is left.
        """
        async with self.network() as namespace:
            return await namespace.add_interface(config)

    async def remove_interface(self, *, mac: str = "", name: str = "") -> bool:
        """There is no such interface; returns whether there was."""
        async with self.network() as namespace:
            return await namespace.remove_interface(mac=mac, name=name)

    async def list_interfaces(self) -> list[Interface]:
        """All of them."""
        async with self.network(change=False) as namespace:
            return await namespace.interfaces()

    async def update_routes(self, routes: Sequence[Route]) -> list[Route]:
        """It has these routes and no others but the kernel's own; returns all."""
        async with self.network() as namespace:
            return await namespace.replace_routes(routes)

    async def list_routes(self) -> list[Route]:
        """All of them."""
        async with self.network(change=False) as namespace:
            return await namespace.routes()

    @asynccontextmanager
    async def network(self, *, change: bool = True) -> AsyncIterator[NetworkNamespace]:
        """Its network namespace, for several changes of which nobody else is to see the half.

        Raises:
            FailedPrecondition: as ``add_interface``; without ``change`` gVisor's can be looked at.
        """
        if self.config.host_network:
            raise FailedPrecondition(f"{self._named} has the network of the host")
        if change and self._directory.load().gvisor:
            raise FailedPrecondition(
                f"{self._named} runs in gVisor, which takes its interfaces over when it starts:"
                " give them to create_sandbox"
            )
        async with AsyncExitStack() as stack:
            if change:
                await stack.enter_async_context(self._directory.exclusive())
            yield await stack.enter_async_context(NetworkNamespace(self.netns))

    async def add_device(self, container_id: str, config: DeviceConfig) -> Device:
        """The container has the directory, file or device.

        Raises:
            FailedPrecondition: the container has ended, or runs in gVisor.
            ShimError: as ``Devices.add``; nothing is left.
        """
        return await in_thread((await self.devices(container_id)).add, config)

    async def remove_device(self, container_id: str, target: str) -> bool:
        """Nothing that was added is at ``target``; returns whether something was."""
        return await in_thread((await self.devices(container_id)).remove, target)

    async def devices(self, container_id: str) -> Devices:
        """Those of one container, to be called without an event loop.

        Raises:
            FailedPrecondition: as ``add_device``.
        """
        if self._directory.load().gvisor:
            raise FailedPrecondition(
                f"{self._named} runs in gVisor, whose kernel has its devices from its start"
            )
        status = await self.status_container(container_id)
        if not status.pid:
            raise FailedPrecondition(f"container {container_id} has ended")
        return Devices(self._directory.bundle(container_id).path, status.pid, detect())

    async def list_devices(self, container_id: str) -> list[Device]:
        """What was added to the container."""
        return await in_thread((await self.devices(container_id)).all)

    # Within.

    @property
    def _named(self) -> str:
        return f"sandbox {self.id}"

    def _known(self, container_id: str) -> Bundle:
        validate_id(container_id)
        bundle = self._directory.bundle(container_id)
        if not bundle.exists:
            raise NotFound(f"container {container_id} does not exist in {self._named}")
        return bundle

    async def _in_state(self, state: State) -> list[str]:
        statuses = [await self.status_container(name) for name in self._directory.container_ids()]
        return [status.id for status in statuses if status.state is state]

    async def _check_container(self, record: Record, container_id: str, *allowed: State) -> None:
        states.check(self._named, record.state, State.RUNNING)
        status = await self.status_container(container_id)
        states.check(f"container {container_id}", status.state, *allowed)

    async def _quietly_kill(self, container_id: str, signal: int, *, everything: bool = False) -> None:
        with suppress(NotFound, FailedPrecondition):
            await self._shim.kill(container_id, "", signal, all_processes=everything)

    def _exec_id(self, container_id: str, token: str) -> str:
        if token == container_id:
            return ""
        validate_id(token, "process")
        return token
