"""Making a cgroup v2 group: the directories above it, the controllers down the chain, the group itself.

The two rules of cgroup v2 that users run into: a group with processes of its own cannot enable (domain) controllers
for groups below it ("no internal processes"), and below a threaded group there can be no container. Both are looked
for before anything is changed, because the kernel's own answers are misleading: it allows "+cpu" in a group with
processes, turns that into a threaded domain, and refuses only the process that later wants to enter the new group.

Only the root of the whole hierarchy is free of the first rule. The root of a cgroup namespace, which looks the same
from inside a container, is not; the real one is told by its lack of cgroup.type.

Source: kernel Documentation/admin-guide/cgroup-v2.rst, "Organizing Processes and Threads", "Controlling Controllers".
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.cgroup import tree
from shim.cgroup.populated import EventsFile
from shim.cgroup.tree import listed, translated
from shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, ShimError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["create_group"]

_log = logging.getLogger(__name__)


def create_group(mount_point: str, path: str, needs: frozenset[str], wishes: frozenset[str]) -> None:
    """``path`` is a new, empty group below ``mount_point``, with the controllers ``needs`` and, if possible, ``wishes``.

    Missing groups above are made, too. After an error nothing new is left.

    Raises:
        ShimError: see ``Group.create``.
    """
    made: list[str] = []
    try:
        for name in _ancestors(path):
            made += _make(mount_point, name) if name else []
            _enable_controllers(mount_point + name, name or "/", needs, wishes)
        made += _make_leaf(mount_point, path)
    except ShimError:
        for directory in reversed(made):
            # Somebody else may be using a group above by now.
            with suppress(OSError):
                os.rmdir(directory)
        raise


def _ancestors(path: str) -> Iterator[str]:
    """``""``, ``"/a"`` for ``/a/b``."""
    for end, character in enumerate(path):
        if character == "/":
            yield path[:end]


def _make(mount_point: str, name: str) -> list[str]:
    """The directories that were made: this one, or none because it was there."""
    directory = mount_point + name
    try:
        os.mkdir(directory)
    except FileExistsError:
        if os.path.exists(f"{directory}/cgroup.procs"):
            return []
        raise InvalidArgument(f"cgroup {name} cannot be made: a control file has that name") from None
    except OSError as error:
        raise translated(error, f"cgroup {name} cannot be made") from error
    return [directory]


def _make_leaf(mount_point: str, path: str) -> list[str]:
    if made := _make(mount_point, path):
        return made
    # Left over from a container that nobody deleted. A new directory has no limits of old.
    directory = mount_point + path
    try:
        with EventsFile(directory) as events:
            if events.populated():
                raise AlreadyExists(f"cgroup {path} is in use by processes {listed(tree.pids(directory))}")
        os.rmdir(directory)
    except OSError as error:
        raise translated(error, f"cgroup {path} exists and cannot be made anew") from error
    return _make(mount_point, path)


def _enable_controllers(directory: str, name: str, needs: frozenset[str], wishes: frozenset[str]) -> None:
    """Groups below ``directory`` have the controllers ``needs``, and as many of ``wishes`` as possible."""
    try:
        kind = _type(directory)
        if kind not in {"", "domain"}:
            raise FailedPrecondition(_threaded(name, kind))
        enabled = _words(directory, "cgroup.subtree_control")
        if needs | wishes <= enabled:
            return
        here = _words(directory, "cgroup.controllers")
        if missing := needs - here:
            raise FailedPrecondition(_not_available(name, missing, here))
        holders = tree.own_pids(directory) if kind else []
    except OSError as error:
        raise translated(error, f"cgroup {name}") from error
    if not holders:
        for controller in sorted((needs | wishes) & here - enabled):
            _enable(directory, name, controller, required=controller in needs)
    elif missing := needs - enabled:
        raise FailedPrecondition(_internal_processes(name, missing, listed(holders)))


def _type(directory: str) -> str:
    """The content of cgroup.type; empty for the root of the whole hierarchy."""
    try:
        return tree.read_file(f"{directory}/cgroup.type").decode().strip()
    except FileNotFoundError:
        return ""


def _words(directory: str, file: str) -> frozenset[str]:
    return frozenset(tree.read_file(f"{directory}/{file}").decode().split())


def _enable(directory: str, name: str, controller: str, *, required: bool) -> None:
    try:
        tree.write_file(f"{directory}/cgroup.subtree_control", f"+{controller}")
    except OSError as error:
        if not required:
            _log.debug(
                "controller %s cannot be enabled below cgroup %s: %s", controller, name, error.strerror
            )
        elif error.errno == errno.EBUSY:
            # A process entered after we had looked.
            raise FailedPrecondition(
                _internal_processes(name, {controller}, listed(tree.own_pids(directory)))
            ) from error
        else:
            raise translated(
                error, f"controller {controller} cannot be enabled below cgroup {name}"
            ) from error


def _threaded(name: str, kind: str) -> str:
    return (
        f"cgroup {name} is threaded (cgroup.type is {kind!r}), so no container can run below it; "
        "choose another cgroup parent"
    )


def _not_available(name: str, missing: Iterable[str], here: Iterable[str]) -> str:
    return (
        f"controller {', '.join(sorted(missing))} is not available in cgroup {name} "
        f"(its cgroup.controllers: {' '.join(sorted(here)) or 'none'}); enable it in the group above, "
        "or have it delegated (systemd: Delegate=yes)"
    )


def _internal_processes(name: str, missing: Iterable[str], holders: str) -> str:
    return (
        f"cgroup {name} holds processes of its own ({holders}), so controller {', '.join(sorted(missing))} cannot be "
        "enabled for groups below it (cgroup v2's no-internal-process rule); choose another cgroup parent, "
        "or move its processes into a group below it"
    )
