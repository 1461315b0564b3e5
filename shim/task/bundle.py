"""A bundle directory as the shim uses it: the checked config.json, and the files that we and the runtime put beside it.

The bundle that a client hands over is the shim's to write in, as with containerd; the command line makes one of its own
from the user's, which stays untouched. What configuration adds (parent of the cgroup, limits) is laid into config.json
before the runtime reads it, so that a runtime that sets limits itself sets the same ones.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.cgroup.limits import cpu_nanos_to_quota
from shim.errors import FailedPrecondition, InvalidArgument, NotFound, from_os_error
from shim.linux.fd import OwnedFd
from shim.linux.mounts import unmount_tree
from shim.oci import spec as oci_spec
from shim.process.thread import in_thread
from shim.store import records

if TYPE_CHECKING:
    from shim.config import Config
    from shim.process import Exit

__all__ = ["Bundle", "limits_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One bundle directory. Paths only; nothing is kept open."""

    path: Path

    @property
    def rootfs(self) -> Path:
        """Where Create's rootfs mounts go."""
        return self.path / "rootfs"

    @property
    def exit_record(self) -> Path:
        """The init's exit, written before anybody is told of it, for whoever deletes after our death."""
        return self.path / "exit.json"

    @property
    def container_record(self) -> Path:
        """What is needed to clear the container away without its shim; see ``remains``."""
        return self.path / "container.json"

    async def unmount_rootfs(self) -> None:
        """Nothing is mounted on ``rootfs`` or below; what is busy is detached, and the log says so."""
        # Unmounting may wait for a disk, or for a process that is just ending.
        if busy := await in_thread(unmount_tree, str(self.rootfs), always=True):
            _log.warning("%s was busy and is detached", ", ".join(busy))

    def criu_log(self, name: str) -> Path:
        """Where the log of a checkpoint (``dump``) or ``restore`` that failed is kept."""
        return self.path / f"criu-{name}.log"

    def pid_file(self, name: str) -> Path:
        """Where the runtime writes the pid of a process."""
        return self.path / f"{name}.pid"

    def load_spec(self) -> oci_spec.Spec:
        """The checked config.json.

        Raises:
            NotFound: there is none.
            InvalidArgument: it is not valid.
        """
        origin = f"config.json of {self.path}"
        try:
            data = (self.path / "config.json").read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{origin} does not exist") from None
        except OSError as error:
            # Without the path, which is named already.
            raise from_os_error(OSError(error.errno, error.strerror), f"{origin} cannot be read") from error
        return oci_spec.parse(data, origin)

    def save_spec(self, raw: dict[str, Any]) -> None:
        """config.json is replaced as a whole, never seen half written."""
        temporary = self.path / ".config.json.new"
        try:
            temporary.write_bytes(oci_spec.to_json(raw))
            temporary.replace(self.path / "config.json")
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise from_os_error(error, f"config.json of {self.path} cannot be written") from error

    def check_rootfs(self, spec: oci_spec.Spec) -> None:
        """Nothing, when there is a root filesystem.

        Raises:
            NotFound: its directory does not exist.
            FailedPrecondition: it is not a directory.
        """
        root = self.path / spec.root_path
        if not root.exists():
            raise NotFound(f"root.path {root} of {spec.origin} does not exist")
        if not root.is_dir():
            raise FailedPrecondition(f"root.path {root} of {spec.origin} is not a directory")

    def read_pid(self, name: str) -> int:
        """The pid that the runtime wrote.

        Raises:
            NotFound: it wrote none, or nonsense.
        """
        file = self.pid_file(name)
        try:
            with OwnedFd(os.open(file, os.O_RDONLY | os.O_CLOEXEC)) as opened:
                return int(os.read(opened.fileno(), 32))
        except (OSError, ValueError) as error:
            raise NotFound(f"the OCI runtime left no pid in {file}: {error}") from error

    def remove_pid(self, name: str) -> None:
        """Forget a pid file, should there be one."""
        with suppress(OSError):
            self.pid_file(name).unlink()

    async def forget_exit(self) -> None:
        """How a container of the same bundle ended before is not on disk any more."""
        if self.exit_record.exists():
            await records.adelete(self.exit_record, synced=False)

    async def save_exit(self, ended: Exit, *, oom_killed: bool) -> None:
        """The exit is in its file, for whoever asks when this process is no more; after a reboot nobody does."""
        record = {"status": ended.status, "exited_at_ns": ended.exited_at_ns, "oom_killed": oom_killed}
        await records.asave(self.exit_record, record, synced=False)


def limits_of(config: Config) -> dict[str, Any]:
    """The LinuxResources that the configuration asks for.

    Raises:
        InvalidArgument: less CPU than the kernel can give; names the least.
    """
    resources: dict[str, Any] = {}
    if config.cpu_nanos:
        quota, period = cpu_nanos_to_quota(config.cpu_nanos)
        resources["cpu"] = {"quota": quota, "period": period}
    if config.memory_bytes:
        resources["memory"] = {"limit": config.memory_bytes}
    return resources


def short_directory(state_root: str) -> str:
    """A directory, mode 0700, for console sockets, whose path leaves room for their names.

    Raises:
        InvalidArgument: ``state_root`` is too long for a unix socket below it.
        ShimError: it cannot be made.
    """
    path = os.path.join(state_root, "tty")
    if len(os.fsencode(path)) > 90:
        raise InvalidArgument(
            f"state_root {state_root!r} is too long for unix sockets below it; 86 bytes at most"
        )
    try:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"state directory {path} cannot be made") from error
    return path
