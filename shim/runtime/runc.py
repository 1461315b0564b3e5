"""runc, and every other runtime that takes its arguments.

runc leaves the cgroup that ``cgroupsPath`` names alone when it exists and no resources are given, but it cannot be told
to leave cgroups alone altogether: ``cgroups="disabled"`` is refused.

Source: runc(8), runc-create(8), runc-exec(8), runc-checkpoint(8), runc-restore(8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument
from shim.runtime.commandline import CommandLine, option

if TYPE_CHECKING:
    from shim.runtime.options import CheckpointOptions

__all__ = ["RuncCommandLine", "criu_flags"]


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
