"""Taking a container away: from its shim while that answers, else from what is on disk.

What is left at the end is nothing: no container, no shim process, no socket, no directory. Each step may be done
already, by another client or by a run that was cut short.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shim.cli.shim_process import ShimProcess
from shim.cli.task_client import Task
from shim.errors import DataLoss, DeadlineExceeded, FailedPrecondition, NotFound, ShimError, Unavailable
from shim.transport.client import socket_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.cli.containers import Container, Record

__all__ = ["end_shim", "kill", "remove", "stop"]

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
        remove_from_disk(container)
        return
    shim = ShimProcess(record.shim_pid, record.shim_started)
    try:
        with Task.connect(container.id, record.address) as task:
            _delete(task, force=force)
            end_shim(task, shim)
    except Unavailable:
        _remove_dead(container, shim, force=force)
    except DeadlineExceeded:
        if not force:
            raise
        shim.kill()
        _remove_dead(container, shim, force=True)
    _remove_files(container, record)


def _delete(task: Task, *, force: bool) -> None:
    with suppress(NotFound):
        if force:
            kill(task)
        task.delete()


def kill(task: Task) -> None:
    """The container of ``task`` is not running any more; one that was only created is left to Delete."""
    with suppress(NotFound):
        if task.inspect()["status"] in {"created", "stopped"}:
            return
        wait = task.begin_wait(timeout=_KILLED_S)
        task.kill(signal.SIGKILL)
        wait.result()


def stop(tasks: Sequence[Task], timeout_s: float) -> None:
    """The containers have ended: all got SIGTERM, and SIGKILL those that had not ended ``timeout_s`` later.

    Raises:
        ShimError: one could not be stopped; the others are.
    """
    waits = []
    for task in tasks:
        with suppress(NotFound):
            waits.append((task, task.begin_wait(timeout=timeout_s)))
            task.kill(signal.SIGTERM)
    for task, wait in waits:
        try:
            wait.result()
        except DeadlineExceeded:
            kill(task)
        except NotFound:
            continue


def end_shim(task: Task, shim: ShimProcess) -> None:
    """The shim has ended: it was asked to, and killed if it did not. Its container must be deleted."""
    with suppress(ShimError):
        task.shutdown()
    task.close()
    if not shim.wait(_SHIM_ENDS_S):
        shim.kill()


def _remove_dead(container: Container, shim: ShimProcess, *, force: bool) -> None:
    if not force and container.exit_record() is None:
        raise FailedPrecondition(
            f"the shim of container {container.id} is gone, and nobody knows whether the container is; "
            f"to remove both: ocishim delete --force {container.id}"
        )
    shim.kill()
    remove_from_disk(container)


def remove_from_disk(container: Container) -> None:
    """What a dead shim left is gone: processes, cgroup, mounts, the runtime's state, the directory."""
    from shim.bootstrap.delete import delete_from_disk  # noqa: PLC0415 - drivers, which a live shim makes needless

    delete_from_disk(str(container.directory))
    container.remove()


def _remove_files(container: Container, record: Record) -> None:
    container.remove()
    with suppress(FileNotFoundError):
        Path(socket_path(record.address)).unlink()
