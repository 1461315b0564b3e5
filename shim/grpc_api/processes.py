"""AddProcess and Signal: processes beside the init of a container, and signals to any process in it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shim.containers import bundle
from shim.errors import InvalidArgument, NotFound, ShimError, from_os_error
from shim.grpc_api import requests
from shim.grpc_api.endings import PROCESS_PREFIX
from shim.linux.pidfd import pidfd_open, pidfd_send_signal
from shim.oci import process as oci_process
from shim.process.thread import in_thread

if TYPE_CHECKING:
    from shim.containers.containers import Container
    from shim.grpc_api.consoles import Console
    from shim.proto.first_api_pb2 import AddProcessRequest
    from shim.sandbox.task_client import TaskClient

__all__ = ["add_process", "send_signal"]

_MAX_PID = 2**31 - 1


async def add_process(
    client: TaskClient, container: Container, request: AddProcessRequest, console: Console | None
) -> tuple[str, int]:
    """The id of an exec, which runs, and its pid.

    Raises:
        InvalidArgument: it can be no process.
        ShimError: it cannot be run; nothing of it is left.
    """
    streams = requests.streams(request)
    spec = await in_thread(bundle.read, container.directory)
    process = _process(spec.process, request)
    exec_id = f"{PROCESS_PREFIX}{os.urandom(8).hex()}"
    try:
        await client.exec(container.id, exec_id, process, (streams.stdin, streams.stdout, streams.stderr))
        if console is not None and (size := console.size()) is not None:
            await client.resize(container.id, exec_id, size)
        return exec_id, await client.start(container.id, exec_id)
    except BaseException:
        await _forget(client, container.id, exec_id)
        raise


def _process(of_container: dict[str, Any], request: AddProcessRequest) -> dict[str, Any]:
    """What is not said is as the init of the container has it; of the environment, only PATH where there is none."""
    if not request.args:
        raise InvalidArgument("args are needed: the program, and its arguments")
    return oci_process.derive(
        {**of_container, "env": _environment(of_container.get("env") or [], list(request.env))},
        list(request.args),
        cwd=request.cwd or None,
        user=(request.user.uid, request.user.gid) if request.HasField("user") else None,
        groups=list(request.user.additionalGids),
        terminal=request.terminal or bool(request.console),
    )


def _environment(of_container: list[str], wanted: list[str]) -> list[str]:
    """What is not wanted is not there; but without a PATH no runtime finds a program."""
    if any(entry.startswith("PATH=") for entry in wanted):
        return wanted
    path = [entry for entry in of_container if entry.startswith("PATH=")]
    return [*path, *wanted] if wanted else of_container


async def _forget(client: TaskClient, container_id: str, exec_id: str) -> None:
    """Nothing is left of an exec, however far it has come."""
    with suppress(ShimError):
        with suppress(ShimError):
            await client.delete(container_id, exec_id)
            return
        # It has been started after all, or is about to.
        await client.kill(container_id, exec_id, signal.SIGKILL)
        await client.wait(container_id, exec_id)
        await client.delete(container_id, exec_id)


async def send_signal(client: TaskClient, container: Container, pid: int, number: int) -> None:
    """The process of that pid got the signal: the init, an exec, or any other one that is in the container.

    Raises:
        InvalidArgument: no process can have that pid.
        NotFound: there is no such process in the container.
        ShimError: it cannot be sent.
    """
    if not 0 < pid <= _MAX_PID:
        raise InvalidArgument(f"{pid} is no pid")
    unknown = NotFound(f"there is no process {pid} in container {container.id}")
    try:
        # Before we ask whose it is: what the descriptor means cannot change any more.
        pidfd = pidfd_open(pid)
    except OSError:
        raise unknown from None
    with pidfd:
        exec_id = (await client.pids(container.id)).get(pid)
        if exec_id is None:
            raise unknown
        init = (await client.inspect(container.id))["pid"]
        if exec_id or pid == init:
            # Its shim knows more: which process of gVisor's kernel it is, and that a frozen one has to die, too.
            await client.kill(container.id, exec_id, number)
            return
        try:
            pidfd_send_signal(pidfd.fileno(), number)
        except ProcessLookupError:
            raise unknown from None
        except OSError as error:
            raise from_os_error(
                error, f"process {pid} of container {container.id} cannot be signalled"
            ) from error
