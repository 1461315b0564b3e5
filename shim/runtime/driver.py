"""One OCI runtime as the rest of the shim sees it: verbs that return when they are done, errors in one taxonomy.

A driver keeps no state about containers: what is running is the task layer's to know. Every call has a deadline, after
which it is killed; cancelling the caller kills it as well. Nothing here takes a lock, so a call that hangs delays nobody.

``create`` and ``exec`` hand the container's stdio to the runtime. When they fail, the runtime has printed its error on
that stderr too; see ``command.py``.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from shim.errors import AlreadyExists, NotFound, Unimplemented, Unknown
from shim.runtime import command
from shim.runtime.failure import error_for
from shim.runtime.leftovers import cgroups_path, remove_v1_groups
from shim.runtime.logs import last_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.process import Exit, Reaper
    from shim.runtime.command import Result, StdioFds
    from shim.runtime.commandline import Argv, CommandLine
    from shim.runtime.options import CheckpointOptions

__all__ = ["Driver"]

# A name of its own, because inside the class ``list`` is the verb.
Pids: TypeAlias = list[int]


class Driver:
    """Runs the command lines of one runtime. For the loop's thread, like the reaper it uses.

    Every method raises a ShimError: NotFound for an unknown container (and by ``kill`` for one that has ended),
    FailedPrecondition in the wrong state, AlreadyExists, InvalidArgument, ResourceExhausted, Unimplemented where this
    runtime has no such command, DeadlineExceeded after ``timeout`` seconds, else Unknown, always with the runtime's own
    words.
    """

    waits_by_command: ClassVar[bool] = False
    """The processes of a container are not processes of this host: they are signalled, listed and (in a pod) waited
    for by commands; what the host sees is the sandbox."""

    env: ClassVar[Mapping[str, str]] = {}
    """What its calls have in their environment beside what the shim has."""

    def __init__(self, kind: str, line: CommandLine, reaper: Reaper, *, timeout: float) -> None:
        self.kind = kind
        self._line = line
        self._reaper = reaper
        self._timeout = timeout
        self._env = command.environment(**self.env)

    @property
    def binary(self) -> str:
        """Absolute path of the runtime."""
        return self._line.binary

    @property
    def root(self) -> str:
        """The runtime's ``--root``."""
        return self._line.root

    async def create(
        self,
        container_id: str,
        bundle: str,
        *,
        stdio_fds: StdioFds,
        pid_file: str,
        console_socket: str | None = None,
    ) -> None:
        """The container exists, its init waits for ``start``, and ``pid_file`` holds the init's pid.

        ``stdio_fds`` (not owned) are the init's, unless it gets a terminal through ``console_socket``.
        """
        line = self._line.create(container_id, bundle, pid_file=pid_file, console_socket=console_socket)
        await self._create(container_id, bundle, line, stdio_fds)

    def joins_sandbox(self, annotations: Mapping[str, str]) -> bool:  # noqa: ARG002 - for runtimes with sandboxes
        """Whether a container with these annotations runs in the sandbox of another one.

        Then ``create`` leaves the sandbox's pid, ``start`` takes its streams, and ``wait`` tells its end.
        """
        return False

    async def start(self, container_id: str, *, stdio_fds: StdioFds | None = None) -> None:
        """The container's own program runs, or has run; ``stdio_fds`` are its own where it joins a sandbox."""
        await self._run("start", container_id, self._line.start(container_id), fds=stdio_fds)

    async def exec(
        self,
        container_id: str,
        process: bytes,
        *,
        stdio_fds: StdioFds,
        pid_file: str,
        console_socket: str | None = None,
    ) -> int | None:
        """A further process, ``process`` as OCI has it in JSON, runs, or has run.

        ``pid_file`` holds the pid of a child of ours that exits as it does.

        Returns the process's pid inside its sandbox, for ``kill_process``; None where ``pid_file`` names the process.
        """
        line = self._line.exec(
            container_id, command.FILE_PATH, pid_file=pid_file, console_socket=console_socket
        )
        await self._run("exec", container_id, line, fds=stdio_fds, file=process)
        return None

    async def kill(self, container_id: str, number: int, *, all_processes: bool = False) -> None:
        """The init, or every process, of the container got the signal of this number."""
        line = self._line.kill(container_id, number, all_processes=all_processes)
        await self._run("kill", container_id, line)

    async def kill_process(self, container_id: str, pid: int, number: int) -> None:
        """The process that ``exec`` returned ``pid`` for got the signal."""
        what = f"signal {number} for process {pid} of {container_id}"
        raise Unimplemented(f"{what} goes to the host's process itself: {self.kind} has no sandbox")

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """The runtime has forgotten the container. ``force`` kills it first, and takes an unknown one for deleted."""
        await self._run("delete", container_id, self._line.delete(container_id, force=force))

    async def state(self, container_id: str) -> dict[str, Any]:
        """The runtime's state object: ``id``, ``status``, ``bundle``, and ``pid``, 0 when it is stopped."""
        state = _object(await self._run("state", container_id, self._line.state(container_id)), "state")
        return {**state, "pid": max(0, state.get("pid", 0))}

    async def list(self) -> list[dict[str, Any]]:
        """The state objects of all containers below ``root``."""
        # runc 1.3 fails where its root does not exist yet, 1.1 does not.
        if not _exists(self.root):
            return []
        return _array(await self._run("list", "", self._line.list()), "list")

    async def ps(self, container_id: str) -> Pids:
        """The pids of the container's processes; those that it knows itself by where ``waits_by_command``."""
        return [
            int(pid) for pid in _array(await self._run("ps", container_id, self._line.ps(container_id)), "ps")
        ]

    async def pause(self, container_id: str) -> None:
        """Every process is frozen. Only for a running container: runsc wedges one that has not been started."""
        await self._run("pause", container_id, self._line.pause(container_id))

    async def resume(self, container_id: str) -> None:
        """Every process goes on."""
        await self._run("resume", container_id, self._line.resume(container_id))

    async def update(self, container_id: str, resources_json: bytes) -> None:
        """The limits of the LinuxResources object ``resources_json`` are in force."""
        await self._run("update", container_id, self._line.update(container_id), stdin=resources_json)

    async def checkpoint(self, container_id: str, options: CheckpointOptions) -> None:
        """The container is in ``options.image_path``, and stopped unless ``options.leave_running``."""
        await self._run("checkpoint", container_id, self._line.checkpoint(container_id, options))

    async def restore(
        self,
        container_id: str,
        bundle: str,
        options: CheckpointOptions,
        *,
        stdio_fds: StdioFds,
        pid_file: str,
        console_socket: str | None = None,
    ) -> None:
        """The container runs as it was when ``options.image_path`` was written; the rest is as with ``create``."""
        line = self._line.restore(
            container_id, bundle, options, pid_file=pid_file, console_socket=console_socket
        )
        await self._run("restore", container_id, line, fds=stdio_fds)

    async def features(self) -> dict[str, Any]:
        """The runtime's features object (runc since 1.1, crun since 1.8.6)."""
        return _object(await self._run("features", "", self._line.features()), "features")

    async def stats(self, container_id: str) -> dict[str, Any]:
        """The runtime's own statistics, as its ``events --stats`` prints them; crun has none."""
        return _object(await self._run("events", container_id, self._line.stats(container_id)), "events")

    async def version(self) -> str:
        """The version alone, for example ``1.1.5+ds1``."""
        return version_of((await self._run("version", "", self._line.version())).stdout)

    async def wait(self, container_id: str) -> Exit:
        """The exit of a container whose init is no process of this host."""
        raise Unimplemented(f"the init of {container_id} is a process of this host: wait for that")

    async def _create(self, container_id: str, bundle: str, line: Argv, fds: StdioFds) -> None:
        try:
            await self._run("create", container_id, line, fds=fds)
        except AlreadyExists:
            raise
        except BaseException:
            await remove_v1_groups(cgroups_path(bundle, container_id))
            raise

    async def _run(
        self,
        verb: str,
        container_id: str,
        argv: Argv,
        *,
        fds: StdioFds | None = None,
        stdin: bytes = b"",
        file: bytes | None = None,
        bounded: bool = True,
    ) -> Result:
        name = " ".join(filter(None, (self.kind, verb, container_id)))
        timeout = self._timeout if bounded else None
        result = await command.run(
            self._reaper, argv, name=name, timeout=timeout, fds=fds, stdin=stdin, file=file, env=self._env
        )
        if result.exit.status != 0:
            raise self._failure(verb, name, result)
        return result

    def _failure(self, verb: str, name: str, result: Result) -> Exception:
        text = self.explain(result)
        if (number := result.exit.signal) is not None:
            return Unknown(
                f"{name} was killed by {signal.Signals(number).name}" + (f": {text}" if text else "")
            )
        if not _exists(self.binary):
            return NotFound(f"{name}: the runtime {self.binary} does not exist any more")
        # runsc answers a command that it does not know with pages of help.
        if not result.errors and last_words(result.stderr).startswith("Usage:"):
            return Unimplemented(f"{self.kind} {self.binary} has no command {verb!r} with these options")
        return error_for(verb, text or f"{name} exited with {result.exit.status} and logged nothing")

    def explain(self, result: Result) -> str:
        """What the call says went wrong, in one line."""
        return result.message


def _exists(path: str) -> bool:
    return Path(path).exists()


def version_of(output: bytes) -> str:
    """The version in what ``--version`` printed: the last word of its first line, empty when there is none."""
    words = output.decode("utf-8", "replace").partition("\n")[0].split()
    return words[-1] if words else ""


def _object(result: Result, verb: str) -> dict[str, Any]:
    value = _json(result, verb)
    if not isinstance(value, dict):
        raise Unknown(f"OCI runtime {verb} printed {value!r:.200} instead of an object")
    return value


def _array(result: Result, verb: str) -> list[Any]:
    value = _json(result, verb)
    if value is None:  # as runc says none
        return []
    if not isinstance(value, list):
        raise Unknown(f"OCI runtime {verb} printed {value!r:.200} instead of an array")
    return value


def _json(result: Result, verb: str) -> object:
    try:
        return json.loads(result.stdout)
    except ValueError as error:
        raise Unknown(f"OCI runtime {verb} printed no JSON: {result.stdout[:200]!r}") from error
