"""The network namespace of a container or a sandbox, for the verbs that change it while that runs."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, TypeVar

from shim.containers.snapshot import look
from shim.errors import FailedPrecondition, NotFound
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shim.cli.settings import Settings
    from shim.containers.containers import Container
    from shim.net import NetworkNamespace

__all__ = ["within"]

_T = TypeVar("_T")


def within(
    settings: Settings,
    name: str,
    function: Callable[[NetworkNamespace], Awaitable[_T]],
    *,
    change: bool = True,
) -> _T:
    """What ``function`` returns for the network namespace of the container ``name``, or of the sandbox if there is none.

    Raises:
        NotFound: there is neither.
        FailedPrecondition: it is not there to be changed: it has ended, it has the host's network, or it runs under
            gVisor, which looks at its interfaces when it starts and never again.
    """
    try:
        container = settings.containers.get(name)
    except NotFound as error:
        return asyncio.run(_in_sandbox(settings, name, function, change=change, otherwise=error))
    from shim.net import NetworkNamespace  # noqa: PLC0415 - pyroute2 costs 0.1 s, which a refusal does not need

    async def run(path: str) -> _T:
        async with NetworkNamespace(path) as namespace:
            return await function(namespace)

    with _open(container) as fd:
        return asyncio.run(run(f"/proc/self/fd/{fd.fileno()}"))


async def _in_sandbox(
    settings: Settings,
    name: str,
    function: Callable[[NetworkNamespace], Awaitable[_T]],
    *,
    change: bool,
    otherwise: NotFound,
) -> _T:
    from shim.sandbox import fetch_sandbox  # noqa: PLC0415 - start-up time

    where = {"state_root": settings.config.state_root, "storage": settings.config.storage}
    try:
        found = await fetch_sandbox(name, **where)
    except NotFound:
        raise otherwise from None
    async with found as sandbox, sandbox.network(change=change) as namespace:
        return await function(namespace)


def _open(container: Container) -> OwnedFd:
    snapshot = look(container)
    if snapshot.pid == 0:
        raise FailedPrecondition(f"container {container.id} is {snapshot.status}: it has no network")
    if snapshot.details.get("runtime_kind") == "runsc" and snapshot.status != "created":
        raise FailedPrecondition(
            f"container {container.id} runs under gVisor, which takes its interfaces over when it starts:"
            " add them between ocishim create and ocishim start"
        )
    try:
        fd = OwnedFd(os.open(f"/proc/{snapshot.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise FailedPrecondition(f"container {container.id} has just ended") from None
    # The pid may be another process's since: it is not if the container still has it.
    if look(container).pid == snapshot.pid and not _is_ours(fd):
        return fd
    fd.close()
    raise FailedPrecondition(f"container {container.id} has the network of the host, or has just ended")


def _is_ours(fd: OwnedFd) -> bool:
    return os.path.samestat(os.fstat(fd.fileno()), os.stat("/proc/self/ns/net"))
