"""runsc (gVisor): the same verbs, other meanings.

A container is a sandbox process, which runs the container's processes inside itself. So pids are the sandbox's own,
signals for execs go by command, and the pid file of ``exec`` names a waiter on the host that exits as its process does.
The sandbox exits as the init of its first container does; only further containers of a pod need ``wait``, which costs
a whole runsc process for as long as it waits and tells an end 100 ms late.

A sandbox that crashes is a Go program that panics: its exit, and so its container's, is 2. Debian's build of
0.0~20240729 with Go 1.26 does so at random ("running on goroutine N (task goroutine ... is 0)").

What the runscs of Debian 12 (2022) and of 2024 do that a caller must not run into:

* ``create`` with the id of a running container fails, but destroys that container's state first (fixed in 2024).
* ``exec --detach`` starts itself again without every argument that contains ``detach``, ids and paths too, and without our
  descriptors.
* ``pause`` before ``start`` freezes the sandbox and panics; nothing thaws it any more.
* ``start`` that fails leaves the sandbox, in state created; only ``delete --force`` ends it. ``kill`` is refused then.
* Signals above 31, and 0, are unknown to it.
* ``delete`` and ``wait`` need the sandbox reaped: they look for its pid and take a zombie for alive.
* ``delete`` refuses a container that was paused when its sandbox was killed, and ``delete --force`` panics over it, after it
  has forgotten all of it.
* ``--network=sandbox`` (the default) copies addresses and routes of the network namespace at ``start``, in which
  a loopback that is down is missing. A private namespace that nothing has configured is therefore run with
  ``--network=none``, which is a loopback and nothing else: what the bundle asks for.
* On kernels since 6.8 it takes every network namespace for the host's, and refuses to take over what it finds there
  (fixed in August 2024): it looks for a file below /proc/sys/net that had been in the host's alone. So where the namespace
  is neither the host's nor ours ``start`` runs in a mount namespace in which that directory is empty.
* No ``--platform`` is passed unless configured: the default is systrap where runsc knows it, else ptrace, and never
  kvm, which can hang for ever under nested virtualisation.
* cgroups work on hybrid and v1 hosts through v1, and a limit that cannot be set is an error.

Source: gVisor runsc/cmd, runsc/container, runsc/sandbox, runsc/config/flags.go.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from shim.errors import AlreadyExists, InvalidArgument, NotFound, ShimError, Unimplemented, Unknown
from shim.linux.namespaces import is_initial_network
from shim.process import Exit
from shim.runtime.commandline import CommandLine
from shim.runtime.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.process import Reaper
    from shim.runtime.command import Result, StdioFds
    from shim.runtime.options import CheckpointOptions

__all__ = ["Runsc", "RunscCommandLine", "network_of", "takes_network"]

_CGROUP_FLAGS = {
    "runtime": [],
    "systemd": ["--systemd-cgroup=true"],
    "disabled": ["--ignore-cgroups=true"],
}
_OWN_FLAGS = frozenset({"root", "log", "log-format", "log-fd"})
_TYPE_ANNOTATIONS = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")
_HOOKS_BEFORE_START = ("prestart", "createRuntime", "createContainer", "startContainer")

_VAGUE = ("cannot read client sync file", "waiting for sandbox to start: EOF")
_NETWORK_REFUSED = "cannot run with network enabled in root network namespace"
_NETWORK_HINT = ' (there is no network namespace in the bundle, or it is the host\'s: set network = "none" or "host" in runsc_config)'
# See the module's text. Releases are dates; Debian's versions have them, too.
_SHOWS_ALL_SINCE = (6, 8)
_FIXED = "20240901"
_RELEASE = re.compile(r"\b20\d{6}\b")
_HIDE_SYSCTLS = 'mount -t tmpfs -o ro,size=4k tmpfs "$0" && exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class RunscCommandLine(CommandLine):
    """runsc's argument lists."""

    platform: str = ""
    network: str = ""
    """For create, start and restore of one container; the same at each, runsc does not remember it."""
    config: tuple[tuple[str, str], ...] = ()
    """Further global flags; of a flag that is given twice runsc takes the last."""
    hide_sysctls: bool = False
    """Run without /proc/sys/net in view; needs root, as a network of one's own does anyway."""

    def __post_init__(self) -> None:
        for key, _ in self.config:
            if key in _OWN_FLAGS:
                raise InvalidArgument(f"runsc_config cannot set {key!r}: the shim sets it itself")

    def launcher(self) -> list[str]:
        """runsc, where need be through unshare and sh, which both end up as runsc in the same process."""
        if not self.hide_sysctls:
            return [self.binary]
        # What the host mounts later still comes in.
        unshare = ["unshare", "--mount", "--propagation", "slave"]
        return [*unshare, "sh", "-c", _HIDE_SYSCTLS, "/proc/sys/net", self.binary]

    def flags(self) -> list[str]:
        """The global flags."""
        chosen = [("platform", self.platform), ("network", self.network)]
        return [
            *self.common_flags(),
            *_CGROUP_FLAGS[self.cgroups],
            *(f"--{key}={value}" for key, value in chosen if value),
            *(f"--{key}={value}" for key, value in self.config),
        ]

    def exec(
        self, container_id: str, process_json: str, *, pid_file: str, console_socket: str | None
    ) -> list[str]:
        """A further process runs, detached; its pid inside the sandbox is in ``inner_pid_file(pid_file)``."""
        line = CommandLine.exec(
            self, container_id, process_json, pid_file=pid_file, console_socket=console_socket
        )
        return [*line[:-1], "--internal-pid-file", inner_pid_file(pid_file), container_id]

    def kill_process(self, container_id: str, pid: int, number: int) -> list[str]:
        """One process, by its pid inside the sandbox, gets a signal."""
        return self.command("kill", "--pid", str(pid), container_id, str(number))

    def wait(self, container_id: str) -> list[str]:
        """Prints an object with ``exitStatus`` when the container has ended."""
        return self.command("wait", container_id)

    def checkpoint(self, container_id: str, options: CheckpointOptions) -> list[str]:
        """The whole sandbox is written to ``options.image_path``."""
        _refuse_criu_options(options)
        return self.command(
            "checkpoint",
            *("--image-path", options.image_path),
            *(["--leave-running"] if options.leave_running else []),
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
        _refuse_criu_options(options)
        return self.command(
            "restore",
            *self.placement(bundle, pid_file, console_socket),
            *("--detach", "--image-path", options.image_path),
            container_id,
        )


class Runsc(Driver):
    """The driver of runsc."""

    waits_by_command: ClassVar[bool] = True

    _line: RunscCommandLine

    def __init__(self, kind: str, line: RunscCommandLine, reaper: Reaper, *, timeout: float) -> None:
        super().__init__(kind, line, reaper, timeout=timeout)
        self._starts: dict[str, RunscCommandLine] = {}
        self._is_old: bool | None = None

    async def create(
        self,
        container_id: str,
        bundle: str,
        *,
        stdio_fds: StdioFds,
        pid_file: str,
        console_socket: str | None = None,
    ) -> None:
        """As ``Driver.create``; the pid is the sandbox's."""
        self._refuse_duplicate(container_id)
        line = self._for_bundle(container_id, bundle).create(
            container_id, bundle, pid_file=pid_file, console_socket=console_socket
        )
        await self._create(container_id, bundle, line, stdio_fds)

    def joins_sandbox(self, annotations: Mapping[str, str]) -> bool:
        """Whether Kubernetes says that it is a further container of a pod."""
        return any(annotations.get(key) == "container" for key in _TYPE_ANNOTATIONS)

    async def start(self, container_id: str, *, stdio_fds: StdioFds | None = None) -> None:
        """As ``Driver.start``. When it fails the sandbox is still there: delete with ``force``."""
        if container_id not in self._starts:
            self._for_bundle(container_id, str((await self.state(container_id))["bundle"]))
        line = await self._with_network(container_id)
        await self._run("start", container_id, line.start(container_id), fds=stdio_fds)

    async def exec(
        self,
        container_id: str,
        process: bytes,
        *,
        stdio_fds: StdioFds,
        pid_file: str,
        console_socket: str | None = None,
    ) -> int | None:
        """As ``Driver.exec``."""
        file = f"{pid_file}.process"
        line = self._line.exec(container_id, file, pid_file=pid_file, console_socket=console_socket)
        _refuse_lost_arguments(line)
        try:
            _write(file, process)
            await self._run("exec", container_id, line, fds=stdio_fds)
        except BaseException:
            _remove(inner_pid_file(pid_file))
            raise
        finally:
            _remove(file)
        return _taken_pid(inner_pid_file(pid_file))

    async def kill_process(self, container_id: str, pid: int, number: int) -> None:
        """The process that ``exec`` returned ``pid`` for got the signal."""
        await self._run("kill", container_id, self._line.kill_process(container_id, pid, number))

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """As ``Driver.delete``; what counts is whether it is gone."""
        try:
            await super().delete(container_id, force=force)
        except NotFound:
            raise
        except ShimError:
            if await self._knows(container_id):
                raise

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
        """As ``Driver.restore``."""
        self._refuse_duplicate(container_id)
        self._for_bundle(container_id, bundle)
        line = (await self._with_network(container_id)).restore(
            container_id, bundle, options, pid_file=pid_file, console_socket=console_socket
        )
        await self._run("restore", container_id, line, fds=stdio_fds)

    async def wait(self, container_id: str) -> Exit:
        """The exit of the container, once it has ended; no deadline, one runsc process while it waits."""
        result = await self._run("wait", container_id, self._line.wait(container_id), bounded=False)
        try:
            return Exit(int(json.loads(result.stdout)["exitStatus"]), time.time_ns())
        except (ValueError, KeyError, TypeError) as error:
            raise Unknown(f"OCI runtime wait printed {result.stdout[:200]!r}") from error

    def explain(self, result: Result) -> str:
        """The last error; with the first one where the last only says that the sandbox went away."""
        text = result.message
        if len(result.errors) > 1 and any(vague in text for vague in _VAGUE):
            text = f"{text}: {result.errors[0]}"
        return text + _NETWORK_HINT if _NETWORK_REFUSED in text else text

    def _for_bundle(self, container_id: str, bundle: str) -> RunscCommandLine:
        config = _config_of(bundle)
        line = replace(self._line, network=network_of(config))
        # The first container of a pod has the network, and the others have it with it.
        takes = not self.joins_sandbox(config.get("annotations") or {}) and takes_network(config, line)
        self._starts[container_id] = replace(line, hide_sysctls=takes and _kernel_shows_all())
        return line

    async def _with_network(self, container_id: str) -> RunscCommandLine:
        """What starts the container, once."""
        line = self._starts.pop(container_id)
        if line.hide_sysctls and self._is_old is None:
            release = _RELEASE.search(await self.version())
            self._is_old = release is not None and release[0] < _FIXED
        return replace(line, hide_sysctls=line.hide_sysctls and bool(self._is_old))

    async def _knows(self, container_id: str) -> bool:
        try:
            await self.state(container_id)
        except NotFound:
            return False
        except ShimError:
            pass
        return True

    def _refuse_duplicate(self, container_id: str) -> None:
        # See the module's text. Between two creates at the same moment runsc's own lock decides.
        if any(Path(self.root).glob(f"{container_id}_sandbox:*.state")):
            raise AlreadyExists(
                f"OCI runtime create failed: container {container_id} already exists in {self.root}"
            )


def inner_pid_file(pid_file: str) -> str:
    """Where ``exec`` leaves the pid inside the sandbox."""
    return f"{pid_file}.inner"


def network_of(config: Mapping[str, Any]) -> str:
    """The ``--network`` for a bundle with this config.json; empty: runsc's default.

    ``none`` for a private network namespace that nothing can have configured before start.
    """
    namespaces = (config.get("linux") or {}).get("namespaces") or ()
    private = any(n.get("type") == "network" and not n.get("path") for n in namespaces)
    hooks = config.get("hooks") or {}
    return "none" if private and not any(hooks.get(name) for name in _HOOKS_BEFORE_START) else ""


def takes_network(config: Mapping[str, Any], line: RunscCommandLine) -> bool:
    """Whether runsc takes over what is in a network namespace, which is for certain not the host's."""
    namespaces = (config.get("linux") or {}).get("namespaces") or ()
    paths = [n.get("path") or "" for n in namespaces if n.get("type") == "network"]
    stack = dict(line.config).get("network", line.network) or "sandbox"
    return stack == "sandbox" and bool(paths) and all(not path or _is_apart(path) for path in paths)


def _is_apart(netns: str) -> bool:
    try:
        return os.stat(netns).st_ino != os.stat("/proc/self/ns/net").st_ino and not is_initial_network(netns)
    except OSError:
        return False


def _kernel_shows_all() -> bool:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= _SHOWS_ALL_SINCE and os.geteuid() == 0


def _taken_pid(file: str) -> int:
    try:
        return int(Path(file).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise Unknown(f"OCI runtime exec failed: no pid in {file}: {error}") from error
    finally:
        _remove(file)


def _write(file: str, data: bytes) -> None:
    Path(file).write_bytes(data)


def _remove(file: str) -> None:
    Path(file).unlink(missing_ok=True)


def _config_of(bundle: str) -> Mapping[str, Any]:
    try:
        config = json.loads(Path(bundle, "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"bundle {bundle} has no usable config.json: {error}") from error
    if not isinstance(config, dict):
        raise InvalidArgument(f"config.json of bundle {bundle} is not an object")
    return config


def _refuse_lost_arguments(argv: list[str]) -> None:
    for argument in argv[1:]:
        if "detach" in argument and argument != "--detach":
            raise InvalidArgument(
                f"runsc cannot exec with {argument!r}: it loses arguments that contain 'detach'"
            )


def _refuse_criu_options(options: CheckpointOptions) -> None:
    wanted = {
        "parent_path": options.parent_path,
        "tcp_established": options.tcp_established,
        "external_unix_sockets": options.external_unix_sockets,
        "file_locks": options.file_locks,
        "empty_namespaces": options.empty_namespaces,
        "cgroups_mode": options.cgroups_mode,
    }
    if refused := [name for name, value in wanted.items() if value]:
        raise Unimplemented(f"runsc checkpoints have no {', '.join(refused)}")
