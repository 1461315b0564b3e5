"""The command line that the OCI runtimes share, as data: pure functions from what is wanted to an argument list.

runc defined it; crun and runsc take the same verbs. What differs is overridden in ``runc.py``, ``crun.py`` and
``runsc.py``. An id never begins with ``-`` (``oci.identifiers``), so none can pass for an option.

Source: runc(8) and its pages for each verb; OCI runtime command line interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shim.runtime.command import LOG_PATH

if TYPE_CHECKING:
    from shim.runtime.options import Cgroups, CheckpointOptions

__all__ = ["Argv", "CommandLine", "option"]

# A name of its own, because inside the class ``list`` is the verb.
Argv: TypeAlias = list[str]


def option(flag: str, value: str | None) -> Argv:
    """``[flag, value]``, or nothing where there is no value."""
    return [flag, value] if value else []


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine(ABC):
    """Argument lists for one binary and one ``--root``."""

    binary: str
    """Absolute path."""
    root: str
    """Where the runtime keeps its containers."""
    cgroups: Cgroups = "runtime"
    debug: bool = False

    @abstractmethod
    def flags(self) -> Argv:
        """The global flags, which come before the verb."""

    def common_flags(self) -> Argv:
        """The flags that all three have. The log is the file that ``command.run`` passes."""
        debug = ["--debug"] if self.debug else []
        return ["--root", self.root, "--log", LOG_PATH, "--log-format", "json", *debug]

    def command(self, verb: str, *arguments: str) -> Argv:
        """One call."""
        return [*self.launcher(), *self.flags(), verb, *arguments]

    def launcher(self) -> Argv:
        """What is executed: the binary, or a program that ends up as it in the same process."""
        return [self.binary]

    def create(self, container_id: str, bundle: str, *, pid_file: str, console_socket: str | None) -> Argv:
        """The init is made and waits for start."""
        return self.command(
            "create", *self.placement(bundle, pid_file, console_socket), *self.create_flags(), container_id
        )

    def placement(self, bundle: str, pid_file: str, console_socket: str | None) -> Argv:
        """Where create and restore find the bundle and leave the pid and the terminal."""
        return ["--bundle", bundle, "--pid-file", pid_file, *option("--console-socket", console_socket)]

    def create_flags(self) -> Argv:
        """Further flags of create."""
        return []

    def start(self, container_id: str) -> Argv:
        """The container's own program runs."""
        return self.command("start", container_id)

    def exec(
        self, container_id: str, process_json: str, *, pid_file: str, console_socket: str | None
    ) -> Argv:
        """A further process runs, detached."""
        return self.command(
            "exec",
            *("--process", process_json, "--detach", "--pid-file", pid_file),
            *option("--console-socket", console_socket),
            container_id,
        )

    def kill(self, container_id: str, number: int, *, all_processes: bool = False) -> Argv:
        """The init, or every process, gets a signal. The number is passed: runtimes know few names."""
        return self.command("kill", *(["--all"] if all_processes else []), container_id, str(number))

    def delete(self, container_id: str, *, force: bool = False) -> Argv:
        """The container is forgotten; with ``force`` it is killed first, and may be unknown."""
        return self.command("delete", *(["--force"] if force else []), container_id)

    def state(self, container_id: str) -> Argv:
        """Prints an object."""
        return self.command("state", container_id)

    def list(self) -> Argv:
        """Prints an array, or ``null``."""
        return self.command("list", "--format", "json")

    def ps(self, container_id: str) -> Argv:
        """Prints an array of pids, or ``null``."""
        return self.command("ps", "--format", "json", container_id)

    def pause(self, container_id: str) -> Argv:
        """Every process is frozen."""
        return self.command("pause", container_id)

    def resume(self, container_id: str) -> Argv:
        """Every process goes on."""
        return self.command("resume", container_id)

    def update(self, container_id: str) -> Argv:
        """Limits change to the LinuxResources object on standard input."""
        return self.command("update", "--resources", "-", container_id)

    def stats(self, container_id: str) -> Argv:
        """Prints one object with ``type``, ``id`` and ``data``."""
        return self.command("events", "--stats", container_id)

    @abstractmethod
    def checkpoint(self, container_id: str, options: CheckpointOptions) -> Argv:
        """The container is written to ``options.image_path``.

        Raises:
            Unimplemented: this runtime has no flag for one of the options.
        """

    @abstractmethod
    def restore(
        self,
        container_id: str,
        bundle: str,
        options: CheckpointOptions,
        *,
        pid_file: str,
        console_socket: str | None,
    ) -> Argv:
        """A container is made from ``options.image_path`` and runs, detached.

        Raises:
            Unimplemented: this runtime has no flag for one of the options.
        """

    def features(self) -> Argv:
        """Prints an object."""
        return self.command("features")

    def version(self) -> Argv:
        """Prints ``<name> version <version>`` and more lines."""
        return [self.binary, "--version"]
