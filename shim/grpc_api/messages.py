"""What is known of containers and of this machine, as messages of the first API."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shim.containers.snapshot import alook
from shim.errors import NotFound
from shim.process.thread import in_thread
from shim.proto import first_api_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shim.containers.checkpoints import Checkpoint
    from shim.containers.containers import Container
    from shim.containers.snapshot import Snapshot

__all__ = ["Description", "checkpoint_message", "container_message", "describe", "machine"]


class Description(NamedTuple):
    """A container, and its processes by pid, also those that have ended: its init, and execs that its shim still knows."""

    container: wire.Container
    processes: dict[int, wire.Process]


async def describe(container: Container) -> Description:
    """What is known of ``container`` now.

    Raises:
        NotFound: it has gone meanwhile.
    """
    snapshot = await alook(container)
    if not snapshot.details and not container.directory.is_dir():
        raise NotFound(f"container {container.id} does not exist any more")
    spec = await in_thread(_spec, container)
    started = [(snapshot.details.get("pid", 0), spec.get("process"))]
    started += [(about["pid"], about.get("process")) for about in snapshot.details.get("execs", [])]
    processes = {pid: _process(pid, process or {}) for pid, process in started if pid}
    return Description(await container_message(container, snapshot), processes)


async def container_message(container: Container, snapshot: Snapshot) -> wire.Container:
    """One container, with its init and its execs as far as they run."""
    message = wire.Container(
        id=snapshot.id, name=snapshot.id, bundlePath=_text(snapshot.bundle), status=snapshot.status
    )
    if snapshot.pid:
        spec = await in_thread(_spec, container)
        message.processes.append(_process(snapshot.pid, spec.get("process") or {}))
    for about in snapshot.details.get("execs", []):
        if about["pid"] and about["status"] != "stopped":
            message.processes.append(_process(about["pid"], about.get("process") or {}))
    return message


def checkpoint_message(checkpoint: Checkpoint) -> wire.Checkpoint:
    """One checkpoint, as it was asked for."""
    return wire.Checkpoint(
        name=checkpoint.name,
        exit=checkpoint.exit,
        tcp=checkpoint.tcp,
        unixSockets=checkpoint.unix_sockets,
        shell=checkpoint.shell,
    )


def machine() -> wire.Machine:
    """This machine; its memory in bytes."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return wire.Machine(id=_machine_id(), cpus=os.cpu_count() or 1, memory=memory)


def _machine_id() -> str:
    try:
        found = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        found = ""
    return found or socket.gethostname()


def _spec(container: Container) -> dict[str, Any]:
    try:
        return dict(json.loads((container.directory / "config.json").read_bytes()))
    except (OSError, ValueError):  # it is gone by now
        return {}


def _process(pid: int, process: Mapping[str, Any]) -> wire.Process:
    user = process.get("user") or {}
    return wire.Process(
        pid=pid,
        terminal=bool(process.get("terminal")),
        user=wire.User(
            uid=user.get("uid") or 0,
            gid=user.get("gid") or 0,
            additionalGids=user.get("additionalGids") or [],
        ),
        args=_texts(process.get("args")),
        env=_texts(process.get("env")),
        cwd=_text(process.get("cwd") or ""),
    )


def _texts(values: Iterable[str] | None) -> list[str]:
    return [_text(value) for value in values or ()]


def _text(value: str) -> str:
    # JSON can hold lone surrogates, and a path what is no UTF-8; a message cannot.
    return value.encode("utf-8", "replace").decode()
