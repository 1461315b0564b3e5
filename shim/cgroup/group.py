"""One cgroup v2 group of ours: made, limited, looked into, killed, removed.

A ``Group`` is a path; it holds no descriptor and no state, so that one made by a shim can be removed by another process
that knows only the path. The group belongs to its container alone; the groups above it are shared and stay.

Paths come from the configuration and from bundles, so they are untrusted: they are taken below the cgroup mount,
without "..". Group names are ordinary names; there are no symbolic links in a cgroup file system.

How a group is made is in ``creation.py``.

Source: kernel Documentation/admin-guide/cgroup-v2.rst, "Core Interface Files".
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from shim.cgroup import tree
from shim.cgroup.creation import create_group
from shim.cgroup.populated import EventsFile
from shim.cgroup.stats import Gauge
from shim.cgroup.tree import listed, translated
from shim.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound, ShimError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from shim.cgroup.hierarchy import Hierarchy, Mount
    from shim.cgroup.limits import Write

__all__ = ["Group", "clean_path"]

_log = logging.getLogger(__name__)

_FREEZE_TIMEOUT_S = 1.0
_RETRY_S = 0.05


def clean_path(path: str) -> str:
    """``path`` as ``/a/b``: below the cgroup mount, without empty or "." parts.

    Raises:
        InvalidArgument: it contains "..", a NUL or a newline, or names the root.
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts or "\0" in path or "\n" in path:
        raise InvalidArgument(f"cgroup path {path!r} must not contain '..', NUL or newline")
    if not parts:
        raise InvalidArgument(f"cgroup path {path!r} names the root of the hierarchy, not a group")
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise InvalidArgument(f"cgroup path {path[:60]!r}... has a name of more than 255 bytes")
    return "/" + "/".join(parts)


class Group:
    """The group ``path`` below ``mount``, which need not exist.

    Raises:
        InvalidArgument: as ``clean_path``.
    """

    __slots__ = ("directory", "mount_point", "path")

    def __init__(self, mount: Mount, path: str) -> None:
        self.path = clean_path(path)
        self.mount_point = mount.mount_point
        self.directory = mount.mount_point + self.path

    def __repr__(self) -> str:
        return f"Group({self.directory})"

    @classmethod
    def create(cls, hierarchy: Hierarchy, path: str, needs: Iterable[str] = ()) -> Group:
        """A new, empty group without limits, with the controllers ``needs`` and what else there is to count with.

        Missing groups above are made, too, and get the controllers enabled. After an error nothing new is left.

        Raises:
            InvalidArgument: the path; AlreadyExists: processes are in it.
            FailedPrecondition: there is no cgroup v2, it is read-only, a controller is missing, or a group above holds
                processes or is threaded; PermissionDenied: it is not delegated to us.
        """
        if hierarchy.unified is None:
            raise FailedPrecondition(f"cgroup {path} needs cgroup v2, and {hierarchy.describe()}")
        group = cls(hierarchy.unified, path)
        create_group(group.mount_point, group.path, frozenset(needs), hierarchy.controllers)
        return group

    def apply(self, writes: Iterable[Write]) -> None:
        """All ``writes`` are in force. When one fails, those before it stay; the error names it.

        Lowering memory.max below what is in use takes as long as the kernel needs to reclaim, or to kill.

        Raises:
            InvalidArgument: the kernel refuses a value; FailedPrecondition: the controller is not enabled, or the
                kernel does not know the file; NotFound: the group is gone.
        """
        for write in writes:
            self._apply(write)

    def _apply(self, write: Write) -> None:
        if write.not_below:
            self._refuse_below(write, write.not_below)
        try:
            tree.write_file(f"{self.directory}/{write.file}", write.value)
        except FileNotFoundError as error:
            if write.instead:
                self._apply(write.instead)
            elif not write.optional:
                raise self._no_such_file(write) from error
            else:
                _log.info("cgroup %s has no %s; %s is skipped", self.path, write.file, write.describe())
        except OSError as error:
            raise self._refused(write, error) from error

    def _refuse_below(self, write: Write, file: str) -> None:
        try:
            used = int(tree.read_file(f"{self.directory}/{file}"))
        except OSError as error:
            raise translated(error, f"cgroup {self.path}") from error
        if used > int(write.value):
            raise FailedPrecondition(
                f"{write.field} = {write.value} is below what cgroup {self.path} uses now, {used}"
            )

    def _no_such_file(self, write: Write) -> ShimError:
        try:
            enabled = tree.read_file(f"{self.directory}/cgroup.controllers").decode().split()
        except OSError:
            return NotFound(f"cgroup {self.path} does not exist")
        if write.controller in {*enabled, "cgroup"}:
            return FailedPrecondition(f"{write.describe()}: this kernel has no {write.file}")
        parent = self.path.rpartition("/")[0] or "/"
        return FailedPrecondition(
            f"{write.describe()}: controller {write.controller} is not enabled for cgroup {self.path} "
            f"(cgroup.subtree_control of {parent})"
        )

    def _refused(self, write: Write, error: OSError) -> ShimError:
        what = f"{write.describe()}: refused for cgroup {self.path}"
        if error.errno in {errno.EINVAL, errno.ERANGE}:
            return InvalidArgument(f"{what}: {error.strerror}")
        if error.errno == errno.ENODEV and write.controller == "io":
            return InvalidArgument(f"{what}: no such block device (a partition has no limits of its own)")
        return translated(error, what)

    def pids(self) -> list[int]:
        """The processes in the group and below it, ascending; empty when it is gone."""
        return tree.pids(self.directory)

    def gauge(self) -> Gauge:
        """Tells what the kernel counted; raises NotFound when the group is gone."""
        return Gauge(self.directory)

    def exists(self) -> bool:
        """Whether the group is there."""
        return os.path.isdir(self.directory)

    def populated(self) -> bool:
        """Whether a live process is in the group or below it."""
        try:
            with EventsFile(self.directory) as events:
                return events.populated()
        except FileNotFoundError:
            return False

    def frozen(self) -> bool:
        """Whether its processes are stopped by the freezer."""
        try:
            with EventsFile(self.directory) as events:
                return events.frozen()
        except FileNotFoundError:
            return False

    def thaw(self) -> None:
        """Its processes run again; nothing happens when it is gone or was not frozen."""
        self._freeze(frozen=False)

    def _freeze(self, *, frozen: bool) -> None:
        try:
            tree.write_file(f"{self.directory}/cgroup.freeze", "1" if frozen else "0")
        except OSError as error:
            if error.errno not in tree.GONE:
                raise translated(
                    error, f"cgroup {self.path} cannot be {'frozen' if frozen else 'thawed'}"
                ) from error

    def kill(self) -> None:
        """SIGKILL was sent to every process in the group and below it, frozen ones too. They may not be gone yet."""
        try:
            # Atomic against fork, since Linux 5.14.
            tree.write_file(f"{self.directory}/cgroup.kill", "1")
        except FileNotFoundError:
            self._kill_each()
        except OSError as error:
            if error.errno not in tree.GONE:
                raise translated(error, f"cgroup {self.path} cannot be killed") from error

    def _kill_each(self) -> None:
        """For kernels without cgroup.kill; blocks for a moment."""
        # Frozen processes do not fork, and die of SIGKILL all the same (v2).
        self._freeze(frozen=True)
        try:
            with EventsFile(self.directory) as events:
                if not events.frozen():
                    events.wait(_FREEZE_TIMEOUT_S)
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        except FileNotFoundError:
            return
        finally:
            self.thaw()

    def remove(self, timeout_s: float) -> None:
        """The group and all groups below it are gone; those above stay. What still ran in it was killed, and logged.

        Raises:
            DeadlineExceeded: processes did not die within ``timeout_s`` seconds; names them.
        """
        with closing(self._removal(timeout_s)) as steps:
            for events, wait_s in steps:
                events.wait(wait_s)

    async def aremove(self, timeout_s: float) -> None:
        """As ``remove``, without blocking the loop."""
        with closing(self._removal(timeout_s)) as steps:
            for events, wait_s in steps:
                await events.changed(wait_s)

    def _removal(self, timeout_s: float) -> Generator[tuple[EventsFile, float], None, None]:
        """Yields whenever the caller has to wait for a change of the given file, for at most that many seconds."""
        deadline = time.monotonic() + timeout_s
        while not self._remove_tree():
            try:
                events = EventsFile(self.directory)
            except FileNotFoundError:
                return
            with events:
                if events.populated():
                    _log.warning(
                        "cgroup %s still has processes %s; killing them", self.path, listed(self.pids())
                    )
                self.kill()
                # At least once, so that a kernel that is still busy with dead processes is not asked without pause.
                yield events, min(_RETRY_S, max(deadline - time.monotonic(), 0))
                while events.populated() and (left := deadline - time.monotonic()) > 0:
                    yield events, left
            if time.monotonic() >= deadline and not self._remove_tree():
                raise DeadlineExceeded(
                    f"cgroup {self.path} is still in use by processes {listed(self.pids())}"
                )

    def _remove_tree(self) -> bool:
        try:
            return tree.remove_tree(self.directory)
        except OSError as error:
            raise translated(error, f"cgroup {self.path} cannot be removed") from error
