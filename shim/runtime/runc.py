"""runc, and every other runtime that takes its arguments.

Where it is runc for certain, start and delete are mostly done without running it; see ``runc_state``.

runc leaves the cgroup that ``cgroupsPath`` names alone when it exists and no resources are given, but it cannot be told
to leave cgroups alone altogether: ``cgroups="disabled"`` is refused.

Source: runc(8), runc-create(8), runc-exec(8), runc-checkpoint(8), runc-restore(8).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from shim.errors import DeadlineExceeded, InvalidArgument
from shim.runtime.commandline import CommandLine, option
from shim.runtime.driver import Driver
from shim.runtime.runc_state import RuncState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.runtime.command import StdioFds
    from shim.runtime.options import CheckpointOptions

__all__ = ["Runc", "RuncCommandLine", "criu_flags"]


def criu_flags(options: CheckpointOptions) -> list[str]:
    """What checkpoint and restore of runc and crun have in common."""
    switches = {
        "--tcp-established": options.tcp_established,
        "--ext-unix-sk": options.external_unix_sockets,
        "--shell-job": options.shell_job,
        "--file-locks": options.file_locks,
    }
    return [
        *("--image-path", options.image_path),
        *option("--work-path", options.work_path),
        *(flag for flag, wanted in switches.items() if wanted),
        *option("--manage-cgroups-mode", options.cgroups_mode),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuncCommandLine(CommandLine):
    """runc's argument lists."""

    no_pivot_root: bool = False
    no_new_keyring: bool = False

    def __post_init__(self) -> None:
        if self.cgroups == "disabled":
            raise InvalidArgument(f"{self.binary} cannot run containers without cgroups; crun and runsc can")

    def flags(self) -> list[str]:
        """The global flags."""
        return [*self.common_flags(), *(["--systemd-cgroup"] if self.cgroups == "systemd" else [])]

    def create_flags(self) -> list[str]:
        """``--no-pivot`` and ``--no-new-keyring``, when they are wanted."""
        return [
            *(["--no-pivot"] if self.no_pivot_root else []),
            *(["--no-new-keyring"] if self.no_new_keyring else []),
        ]

    def checkpoint(self, container_id: str, options: CheckpointOptions) -> list[str]:
        """The container is written to ``options.image_path``."""
        return self.command(
            "checkpoint",
            *criu_flags(options),
            *option("--parent-path", options.parent_path),
            *(["--leave-running"] if options.leave_running else []),
            *_empty_namespaces(options),
            container_id,
        )

    def restore(
        self,
        container_id: str,
        bundle: str,
        options: CheckpointOptions,
        *,
        pid_file: str,
        console_socket: str | None,
    ) -> list[str]:
        """A container is made from ``options.image_path`` and runs, detached."""
        # --no-subreaper: the shim is the subreaper, and the restored init has to become its child.
        return self.command(
            "restore",
            *self.placement(bundle, pid_file, console_socket),
            *("--detach", "--no-subreaper"),
            *criu_flags(options),
            *_empty_namespaces(options),
            *(["--no-pivot"] if self.no_pivot_root else []),
            container_id,
        )


def _empty_namespaces(options: CheckpointOptions) -> list[str]:
    return [word for name in options.empty_namespaces for word in ("--empty-ns", name)]


class Runc(Driver):
    """runc itself, no script around it and no other runtime with its arguments: its files mean what runc means by them."""

    # For the milliseconds of a call more threads are work, not help; containerd's value, 2, is meant for shims. The
    # container gets nothing of runc's environment.
    env: ClassVar[Mapping[str, str]] = {"GOMAXPROCS": "1"}

    async def start(self, container_id: str, *, stdio_fds: StdioFds | None = None) -> None:
        """As ``Driver.start``."""
        try:
            async with asyncio.timeout(self._timeout):
                if (state := RuncState.load(self.root, container_id)) and await state.start():
                    return
        except TimeoutError:
            what = f"{self.kind} start {container_id}"
            raise DeadlineExceeded(f"{what}: the init did not start within {self._timeout:g} s") from None
        await super().start(container_id, stdio_fds=stdio_fds)

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """As ``Driver.delete``."""
        ours = not force and self._line.cgroups != "systemd"
        if ours and (state := RuncState.load(self.root, container_id)) and state.delete():
            return
        await super().delete(container_id, force=force)
