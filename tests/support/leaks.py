"""Counts what a test leaves behind: processes, descriptors, mounts, cgroups, network namespaces, files of the state root.

Processes are ours when they descend from this one, carry the mark of this session in their environment (everything
started by a test inherits it; the ``bundle`` fixture gives it to containers too), or name the state root in their
arguments. The other kinds are compared before and after, whoever made them: only what outlives ``SETTLE_S`` counts, so
that the short-lived containers of another test run on the same machine do not. What runs in ``tests/bed/apart`` counts
itself, and does not count outside.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from support import templates
from support.bed import CGROUP
from support.mounts import mount_points

MARK = f"OCISHIM_TEST_SESSION={uuid.uuid4().hex}"
APART = "ocishim-apart-"  # how its groups begin (tests/bed/apart), and what OCISHIM_APART is there
SETTLE_S = 5.0
_POLL_S = 0.02
# The first `ip netns add` since the machine was booted mounts it, for good.
_NETNS = "/run/netns"
# So does the first container of ours whose parent group nobody has configured.
_PARENT = "ocishim"


@dataclass(frozen=True, slots=True)
class Process:
    """One process; the same pid with the same start time is the same process, whatever its state."""

    pid: int
    started: int
    parent: int = field(compare=False)
    state: str = field(compare=False)
    command: str = field(compare=False)

    def __str__(self) -> str:
        return f"process {self.pid} ({self.state}): {self.command}"


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # hundreds at a time, some thousand times
        return file.readall()


def _all() -> list[tuple[Process, bytes]]:
    return [p for pid in os.listdir("/proc") if pid.isdigit() and (p := _process(int(pid)))]


def _process(pid: int) -> tuple[Process, bytes] | None:
    """The process and its raw environment and arguments; None when it has ended meanwhile."""
    try:
        stat, arguments, environment = (
            _read(f"/proc/{pid}/{name}") for name in ("stat", "cmdline", "environ")
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    stat = stat.decode(errors="replace")
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    state, parent, *rest = stat[stat.rindex(")") + 2 :].split()
    text = arguments.replace(b"\0", b" ").decode(errors="replace").strip() or f"[{name}]"
    return Process(pid, int(rest[17]), int(parent), state, text), environment + b"\0" + arguments


def processes(state_root: Path | None = None) -> set[Process]:
    """Every process of this test session except this one."""
    return _ours(_all(), state_root)


def _ours(found: list[tuple[Process, bytes]], state_root: Path | None) -> set[Process]:
    signs = [MARK.encode(), *([os.fsencode(state_root)] if state_root else [])]
    ours = {p.pid for p, text in found if any(sign in text for sign in signs)}
    ours = _with_descendants({os.getpid(), *ours}, found)
    # A template may stay, which serves the tests to come.
    ours -= {p.pid for p, _ in found if templates.is_template(p.command)}
    return {p for p, _ in found if p.pid in ours and p.pid != os.getpid()}


def _with_descendants(pids: set[int], found: list[tuple[Process, bytes]]) -> set[int]:
    by_parent: dict[int, list[int]] = {}
    for process, _ in found:
        by_parent.setdefault(process.parent, []).append(process.pid)
    result = set(pids)
    todo = list(pids)
    while todo:
        children = [c for c in by_parent.get(todo.pop(), []) if c not in result]
        result.update(children)
        todo += children
    return result


def _apart(found: list[tuple[Process, bytes]]) -> set[int]:
    """The pids of what runs apart from this process; it is there or not, and who is there sees nobody else."""
    if "OCISHIM_APART" in os.environ:
        return set()
    sign = f"OCISHIM_APART={APART}".encode()
    return _with_descendants({p.pid for p, text in found if sign in text}, found)


def descriptors() -> set[str]:
    """The open descriptors of this process, as ``fd N -> target``."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            found.add(f"fd {fd} -> {os.readlink(f'/proc/self/fd/{fd}')}")
    return found


def cgroups() -> set[str]:
    found = set()
    for folder, names, _ in os.walk(CGROUP):
        names[:] = [name for name in names if not name.startswith(APART)]
        found.update(f"cgroup {folder}/{name}" for name in names if name != _PARENT)
    return found


def network_namespaces(processes: list[tuple[Process, bytes]]) -> set[str]:
    """The network namespaces that some process is in (bound ones are mounts, held ones descriptors); a template may stay."""
    found = set()
    apart = _apart(processes)
    for process, _ in processes:
        if templates.is_template(process.command) or process.pid in apart:
            continue
        with contextlib.suppress(OSError):
            found.add(f"network namespace {os.readlink(f'/proc/{process.pid}/ns/net')}")
    return found


def files(state_root: Path) -> set[str]:
    """Everything below the state root that is not a folder: sockets, FIFOs, records, logs."""
    return {f"file {Path(folder) / name}" for folder, _, names in os.walk(state_root) for name in names}


def begin() -> None:
    """What is there now is not looked through again whenever descriptors of what is garbage are looked for.

    With everything that the tests import and leave behind a collection takes 0.3 s, and there are thousands of them.
    """
    gc.collect()
    gc.freeze()


def snapshot(state_root: Path | None = None) -> set[object]:
    """All that can leak, each item with a ``str`` that names it."""
    gc.collect()
    everything = _all()
    found: set[object] = {
        *_ours(everything, state_root),
        *descriptors(),
        *cgroups(),
        *network_namespaces(everything),
    }
    found.update(f"mount {number} on {point}" for number, point in mount_points().items() if point != _NETNS)
    if state_root:
        found |= files(state_root)
    return found


def left_since(before: set[object], state_root: Path | None = None) -> list[object]:
    """What is there now and was not ``before``, and stays for ``SETTLE_S``."""
    deadline = time.monotonic() + SETTLE_S
    left = snapshot(state_root) - before
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left &= snapshot(state_root)
    return sorted(left, key=str)


def kill(left: list[object]) -> None:
    """End the processes among ``left``, so that one failing test does not fail the next."""
    for item in left:
        if isinstance(item, Process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(item.pid, signal.SIGKILL)
