"""containerd.task.v2.Task and containerd.task.v3.Task: the wire on one side, ``Container`` on the other.

The two versions differ in their package name only; one set of handlers and of messages serves both. What changes
something is shielded: it goes on when the connection that asked for it dies. Waiting and asking are not.

Source: containerd api/runtime/task/v3/shim.proto.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from shim import __version__
from shim.errors import FailedPrecondition, InvalidArgument
from shim.linux.mounts import Mount
from shim.linux.pty import Winsize
from shim.oci import resources as oci_resources
from shim.proto import task_v3_pb2 as task
from shim.proto.runc_options_pb2 import CheckpointOptions as RuncCheckpointOptions
from shim.proto.runc_options_pb2 import ProcessDetails
from shim.proto.task_types_pb2 import ProcessInfo, Status
from shim.runtime import CheckpointOptions
from shim.service.event_messages import timestamp
from shim.service.metrics import to_any
from shim.service.options import checkpoint_options, restored, with_options
from shim.stdio import Streams
from shim.task import CreateRequest, State
from shim.transport.calls import Method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.config import Config
    from shim.service.containers import Containers
    from shim.transport.calls import CallContext

__all__ = ["TaskService"]

_EMPTY = Empty()

_STATUS = {
    State.CREATED: Status.CREATED,
    State.RUNNING: Status.RUNNING,
    State.PAUSING: Status.PAUSING,
    State.PAUSED: Status.PAUSED,
    State.STOPPED: Status.STOPPED,
    State.DELETED: Status.UNKNOWN,
}
_PAUSED = frozenset({State.PAUSED, State.PAUSING})


class TaskService:
    """Answers for the containers of one shim."""

    def __init__(self, containers: Containers, config: Config) -> None:
        self._containers = containers
        self._config = config

    def services(self) -> Mapping[str, Mapping[str, Method]]:
        """The methods under both names, ready for a server."""
        methods = {
            "State": Method(self.state, task.StateRequest),
            "Create": Method(self.create, task.CreateTaskRequest, shielded=True),
            "Start": Method(self.start, task.StartRequest, shielded=True),
            "Delete": Method(self.delete, task.DeleteRequest, shielded=True),
            "Pids": Method(self.pids, task.PidsRequest),
            "Pause": Method(self.pause, task.PauseRequest, shielded=True),
            "Resume": Method(self.resume, task.ResumeRequest, shielded=True),
            "Checkpoint": Method(self.checkpoint, task.CheckpointTaskRequest, shielded=True),
            "Kill": Method(self.kill, task.KillRequest, shielded=True),
            "Exec": Method(self.exec, task.ExecProcessRequest, shielded=True),
            "ResizePty": Method(self.resize_pty, task.ResizePtyRequest),
            "CloseIO": Method(self.close_io, task.CloseIORequest),
            "Update": Method(self.update, task.UpdateTaskRequest, shielded=True),
            "Wait": Method(self.wait, task.WaitRequest),
            "Stats": Method(self.stats, task.StatsRequest),
            "Connect": Method(self.connect, task.ConnectRequest),
            "Shutdown": Method(self.shutdown, task.ShutdownRequest, shielded=True),
        }
        return {"containerd.task.v2.Task": methods, "containerd.task.v3.Task": methods}

    async def create(self, request: task.CreateTaskRequest, context: CallContext) -> task.CreateTaskResponse:
        """The container exists; its init waits for Start."""
        if context.namespace is not None and not context.namespace:
            raise FailedPrecondition("namespace is required")
        if not os.path.isabs(request.bundle) or "\0" in request.bundle:
            raise InvalidArgument(f"bundle {request.bundle!r} must be an absolute path")
        container = await self._containers.create(
            CreateRequest(
                id=request.id,
                bundle=request.bundle,
                streams=Streams(request.stdin, request.stdout, request.stderr, request.terminal),
                config=with_options(self._config, request.options),
                restore_from=_restore_options(request),
                rootfs=[Mount(m.type, m.source, m.target, tuple(m.options)) for m in request.rootfs],
            )
        )
        return task.CreateTaskResponse(pid=container.pid)

    async def start(self, request: task.StartRequest, _: CallContext) -> task.StartResponse:
        """The init or the exec runs."""
        return task.StartResponse(pid=await self._containers.get(request.id).start(request.exec_id))

    async def delete(self, request: task.DeleteRequest, _: CallContext) -> task.DeleteResponse:
        """The container or the exec is gone for good."""
        if not request.exec_id:
            await self._containers.give_up_create(request.id)
        container = self._containers.get(request.id)
        pid, ended = await container.delete(request.exec_id)
        if not request.exec_id:
            self._containers.forget(container)
        response = task.DeleteResponse(pid=pid)
        if ended is not None:
            response.exit_status = ended.status
            response.exited_at.CopyFrom(timestamp(ended.exited_at_ns))
        return response

    def exec(self, request: task.ExecProcessRequest, _: CallContext) -> Empty:
        """A process is registered; Start runs it."""
        streams = Streams(request.stdin, request.stdout, request.stderr, request.terminal)
        self._containers.get(request.id).add_exec(request.exec_id, request.spec.value, streams)
        return _EMPTY

    def state(self, request: task.StateRequest, _: CallContext) -> task.StateResponse:
        """A process as it is now, from memory."""
        container = self._containers.get(request.id)
        exec_id = request.exec_id
        process = container.process(exec_id)
        state, streams, ended = process.state, process.io.streams, process.exit
        if exec_id and state is State.RUNNING and container.init.state in _PAUSED:
            state = container.init.state
        response = task.StateResponse(
            id=process.id,
            bundle=str(container.bundle.path),
            pid=process.pid,
            status=_STATUS[state],
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            terminal=streams.terminal,
            exec_id=exec_id,
        )
        if ended is not None:
            response.exit_status = ended.status
            response.exited_at.CopyFrom(timestamp(ended.exited_at_ns))
        return response

    async def wait(self, request: task.WaitRequest, _: CallContext) -> task.WaitResponse:
        """The exit, once it is recorded."""
        ended = await self._containers.get(request.id).wait(request.exec_id)
        return task.WaitResponse(exit_status=ended.status, exited_at=timestamp(ended.exited_at_ns))

    async def kill(self, request: task.KillRequest, _: CallContext) -> Empty:
        """The signal is sent."""
        container = self._containers.get(request.id)
        await container.kill(request.signal, request.exec_id, all_processes=request.all)
        return _EMPTY

    def pids(self, request: task.PidsRequest, _: CallContext) -> task.PidsResponse:
        """Every process of the container."""
        response = task.PidsResponse()
        for pid, exec_id in self._containers.get(request.id).pids().items():
            response.processes.append(_process_info(pid, exec_id))
        return response

    async def pause(self, request: task.PauseRequest, _: CallContext) -> Empty:
        """Every process is frozen."""
        await self._containers.get(request.id).pause()
        return _EMPTY

    async def resume(self, request: task.ResumeRequest, _: CallContext) -> Empty:
        """Every process runs again."""
        await self._containers.get(request.id).resume()
        return _EMPTY

    async def checkpoint(self, request: task.CheckpointTaskRequest, _: CallContext) -> Empty:
        """The container is an image below ``path``."""
        await self._containers.get(request.id).checkpoint(_checkpoint_options(request))
        return _EMPTY

    def resize_pty(self, request: task.ResizePtyRequest, _: CallContext) -> Empty:
        """The terminal has that size, now or when there is one; ttrpc says width first."""
        size = Winsize(rows=request.height & 0xFFFF, cols=request.width & 0xFFFF)
        self._containers.get(request.id).resize(size, request.exec_id)
        return _EMPTY

    def close_io(self, request: task.CloseIORequest, _: CallContext) -> Empty:
        """The process sees the end of its stdin when the clients are done with it, too."""
        container = self._containers.get(request.id)
        process = container.process(request.exec_id)
        if request.stdin:
            process.io.close_stdin()
        return _EMPTY

    async def update(self, request: task.UpdateTaskRequest, _: CallContext) -> Empty:
        """The limits hold."""
        container = self._containers.get(request.id)
        await container.update(oci_resources.parse(request.resources.value, "resources of Update"))
        return _EMPTY

    def stats(self, request: task.StatsRequest, _: CallContext) -> task.StatsResponse:
        """What the container uses."""
        container = self._containers.get(request.id)
        statistics = container.statistics()
        return task.StatsResponse(stats=to_any(statistics, unified=container.group.unified))

    def connect(self, request: task.ConnectRequest, _: CallContext) -> task.ConnectResponse:
        """Who we are; never fails, also for an id that nobody knows."""
        container = self._containers.find(request.id)
        return task.ConnectResponse(
            shim_pid=os.getpid(), task_pid=container.pid if container else 0, version=__version__
        )

    def shutdown(self, _request: task.ShutdownRequest, _: CallContext) -> Empty:
        """The shim ends when it has no containers, now or later."""
        self._containers.ask_shutdown()
        return _EMPTY


def _process_info(pid: int, exec_id: str) -> ProcessInfo:
    info = ProcessInfo(pid=pid)
    if exec_id:
        details = ProcessDetails(exec_id=exec_id)
        info.info.CopyFrom(
            AnyMessage(type_url=details.DESCRIPTOR.full_name, value=details.SerializeToString())
        )
    return info


def _checkpoint_options(request: task.CheckpointTaskRequest) -> CheckpointOptions:
    wire = checkpoint_options(request.options)
    if not (image := wire.image_path or request.path):
        raise InvalidArgument("Checkpoint needs the path of a directory for its image")
    return CheckpointOptions(
        image_path=image,
        work_path=wire.work_path,
        parent_path=wire.parent_path if isinstance(wire, RuncCheckpointOptions) else "",
        leave_running=not wire.exit,
        tcp_established=wire.open_tcp,
        external_unix_sockets=wire.external_unix_sockets,
        shell_job=wire.terminal,
        file_locks=wire.file_locks,
        empty_namespaces=tuple(wire.empty_namespaces),
        cgroups_mode=wire.cgroups_mode,
    )


def _restore_options(request: task.CreateTaskRequest) -> CheckpointOptions | None:
    wanted = restored(request.options)
    if not (image := request.checkpoint or wanted.image):
        return None
    return CheckpointOptions(
        image_path=image,
        work_path=wanted.work,
        parent_path=request.parent_checkpoint,
        shell_job=request.terminal,
    )
