"""Taking a container away: from its shim while that answers, else from what is on disk.

What is left at the end is nothing: no container, no shim process, no socket, no directory. Each step may be done
already, by another client or by a run that was cut short.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shim.containers.shim_process import ShimProcess
from shim.containers.task_client import Task
from shim.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    ShimError,
    Unavailable,
    Unknown,
)
from shim.transport.client import socket_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.containers.containers import Container, Record
    from shim.containers.task_client import WaitAnswer

__all__ = ["remove", "remove_known", "stop"]

_SHIM_ENDS_S = 5.0
_KILLED_S = 10.0


def remove(container: Container, *, force: bool) -> None:
    """Nothing is left of ``container``; with ``force`` it is killed first.

    Raises:
        FailedPrecondition: it runs, or is being made, and ``force`` was not given.
        ShimError: the runtime could not delete it.
    """
    try:
        record = container.record()
    except (FailedPrecondition, DataLoss):
        if not force:
            raise
        _remove_from_disk(container)
    else:
        remove_known(container, record, force=force)


def remove_known(container: Container, record: Record, *, force: bool) -> None:
    """The same for a container whose record is known, be it on disk or not."""
    shim = ShimProcess(record.shim_pid, record.shim_started)
    try:
        with Task.connect(container.id, record.address) as task:
            _delete(container, task, force=force)
            with suppress(Unavailable):
                task.shutdown()
        if not shim.wait(_SHIM_ENDS_S):
            # It hangs, or a Create that nobody waits for any more is still going on in it.
            _remove_dead(container, shim, force=True)
    except Unavailable:
        _remove_dead(container, shim, force=force)
    except DeadlineExceeded:
        if not force:
            raise
        shim.kill()
        _remove_dead(container, shim, force=True)
    container.remove()
    # A shim that ended by itself has done that already.
    with suppress(FileNotFoundError):
        Path(socket_path(record.address)).unlink()


def _delete(container: Container, task: Task, *, force: bool) -> None:
    try:
        if force:
            _kill_if_it_runs(task)
        # Also where there is none yet: this ends a Create that is going on.
        task.delete()
    except FailedPrecondition:
        if not force:
            raise
        # It is just being started, which ends with its init.
        _kill(task)
        task.delete()
    except NotFound as error:
        if not force and container.exit_record() is None:
            raise FailedPrecondition(
                f"container {container.id} is being made just now, or that was cut short; "
                f"to remove it: ocishim delete --force {container.id}"
            ) from error


def _kill_if_it_runs(task: Task) -> None:
    with suppress(NotFound):
        if task.inspect()["status"] not in {"created", "stopped"}:
            _kill(task)


def _kill(task: Task) -> None:
    with suppress(NotFound):
        wait = task.begin_wait(timeout=_KILLED_S)
        task.kill(signal.SIGKILL)
        wait.result()


def stop(tasks: Sequence[Task], timeout_s: float) -> None:
    """The containers have ended: all got SIGTERM, and SIGKILL those that had not ended ``timeout_s`` later.

    Raises:
        ShimError: one could not be stopped; the others are.
    """
    failure: ShimError | None = None
    waits: list[tuple[Task, WaitAnswer]] = []
    for task in tasks:
        try:
            waits.append((task, task.begin_wait(timeout=timeout_s)))
            _terminate(task)
        except ShimError as error:
            failure = error
    for task, wait in waits:
        try:
            _await_end(task, wait)
        except ShimError as error:
            failure = error
    if failure is not None:
        raise failure


def _terminate(task: Task) -> None:
    with suppress(NotFound):
        status = task.inspect()["status"]
        # A program that has not begun has no handler to run; what is frozen cannot run its own.
        task.kill(signal.SIGKILL if status == "created" else signal.SIGTERM)
        if status == "paused":
            task.resume()


def _await_end(task: Task, wait: WaitAnswer) -> None:
    try:
        wait.result()
    except DeadlineExceeded:
        _kill(task)
    except NotFound:
        return


def _remove_dead(container: Container, shim: ShimProcess, *, force: bool) -> None:
    if not force and container.exit_record() is None:
        raise FailedPrecondition(
            f"the shim of container {container.id} is gone, and nobody knows whether the container is; "
            f"to remove both: ocishim delete --force {container.id}"
        )
    shim.kill()
    _remove_from_disk(container)


def _remove_from_disk(container: Container) -> None:
    """What a dead shim left is gone: processes, cgroup, mounts, the runtime's state, the directory."""
    if threading.current_thread() is threading.main_thread():
        from shim.bootstrap.delete import delete_from_disk  # noqa: PLC0415 - drivers, which a live shim makes needless

        delete_from_disk(str(container.directory))
    else:
        _delete_apart(container)
    container.remove()


def _delete_apart(container: Container) -> None:
    """The same in a process of its own: SIGCHLD is the main thread's, and a daemon is no place for orphans of the runtime."""
    import subprocess  # noqa: PLC0415 - start-up time of the command line, which never comes here

    program = "import sys; from shim.bootstrap.delete import delete_from_disk as f; f(sys.argv[1])"
    done = subprocess.run(  # noqa: S603 - our own arguments
        [sys.executable, "-c", program, str(container.directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        *_, last = done.stderr.decode(errors="replace").strip().splitlines() or ["it has said nothing"]
        raise Unknown(f"what is left of container {container.id} cannot be removed: {last}")
