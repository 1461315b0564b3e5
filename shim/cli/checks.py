"""What ocishim needs of a host, as a list of checks: each says what it found and, where that is too little, what to do.

Every check is a function of its own without arguments or with the configuration, and yields what it found; a new one
is added to ``ALL``. What only a container can show is in ``trial.py``.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shim.bootstrap.listener import own_socket
from shim.cgroup.hierarchy import detect
from shim.cli.trial import try_runtime
from shim.containers.task_client import NAMESPACE
from shim.errors import ShimError
from shim.linux.mount_api import fsopen
from shim.linux.paths import open_in_root
from shim.linux.pidfd import pidfd_open
from shim.runtime.registry import find_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shim.config import Config

__all__ = [
    "ALL",
    "Check",
    "checkpoint",
    "control_groups",
    "images",
    "kernel",
    "permissions",
    "runtimes",
    "state",
    "terminals",
]

Verdict = Literal["ok", "warn", "fail"]

_VERSION_S = 10.0
_FREE_BYTES = 64 << 20

# include/uapi/linux/capability.h. Only those whose lack changes what works.
_CAPABILITIES = {
    21: ("CAP_SYS_ADMIN", "fail", "namespaces and mounts need it; run as root, outside of a container"),
    24: (
        "CAP_SYS_RESOURCE",
        "warn",
        "bundles that raise rlimits or lower oom_score_adj are refused by the runtime",
    ),
    12: ("CAP_NET_ADMIN", "warn", "the network of a container cannot be set up"),
}
_USES = {"runc": "the usual one", "crun": "smaller and faster than runc", "runsc": "gVisor, a sandbox"}

_IMAGE_TOOLS = {
    "umoci": "only users who are not root need it, to unpack images",
    "skopeo": "only archives of 'docker save' before Docker 25 need it",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""
    """What to do; empty where there is nothing to."""


def kernel(_: Config) -> Iterator[Check]:
    """The system calls that are used where they are there, and the one that is needed."""
    release = platform.release()
    try:
        pidfd_open(os.getpid()).close()
        yield Check("kernel", "ok", f"Linux {release} on {platform.machine()}")
    except OSError as error:
        yield Check(
            "kernel", "fail", f"Linux {release}: pidfd_open: {error.strerror}", "use Linux 5.3 or newer"
        )
    missing = [name for name, probe in _PROBES.items() if not _works(probe)]
    if missing:
        advice = "use Linux 5.6 or newer; mounts that a client asks for, and paths in containers, may fail"
        yield Check("system calls", "warn", f"not here: {', '.join(missing)}", advice)
    else:
        yield Check("system calls", "ok", ", ".join(_PROBES))


_PROBES: dict[str, Callable[[], object]] = {
    "openat2": lambda: open_in_root("/", "proc").close(),
    "fsopen": lambda: fsopen("tmpfs").close(),
}


def _works(probe: Callable[[], object]) -> bool:
    try:
        probe()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def control_groups(_: Config) -> Iterator[Check]:
    """Who enforces limits here."""
    hierarchy = detect()
    found = hierarchy.describe()
    if hierarchy.mode == "none":
        yield Check("cgroups", "fail", found, "mount cgroup v2: mount -t cgroup2 none /sys/fs/cgroup")
    elif not hierarchy.writes_limits:
        advice = (
            "limits are left to the runtime; for cgroup v2 boot with systemd.unified_cgroup_hierarchy=1"
            " or cgroup_no_v1=all"
        )
        yield Check("cgroups", "warn", found, advice)
    elif lacking := {"cpu", "memory", "pids"} - hierarchy.controllers:
        names = ", ".join(sorted(lacking))
        yield Check(
            "cgroups",
            "warn",
            found,
            f"no limits for {names}: enable it in the parent's cgroup.subtree_control",
        )
    elif hierarchy.unified and not os.access(hierarchy.unified.mount_point, os.W_OK):
        yield Check("cgroups", "warn", f"{found}; not writable", "limits need root, or a delegated group")
    else:
        yield Check("cgroups", "ok", found)


def permissions(_: Config) -> Iterator[Check]:
    """Who we are, and what that is worth."""
    if os.geteuid() != 0:
        advice = "most bundles need root; one made with 'ocishim spec --rootless' does not"
        yield Check("user", "warn", f"uid {os.geteuid()}", advice)
        yield from _user_namespaces()
        return
    effective = _effective_capabilities()
    lacking = [entry for number, entry in _CAPABILITIES.items() if not effective >> number & 1]
    for name, verdict, advice in lacking:
        yield Check("user", "fail" if verdict == "fail" else "warn", f"root without {name}", advice)
    if not lacking:
        yield Check("user", "ok", "root")


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _user_namespaces() -> Iterator[Check]:
    switches = {
        "/proc/sys/user/max_user_namespaces": "sysctl user.max_user_namespaces=10000",
        "/proc/sys/kernel/unprivileged_userns_clone": "sysctl kernel.unprivileged_userns_clone=1",
    }
    for file, advice in switches.items():
        try:
            if int(Path(file).read_text(encoding="ascii")) == 0:
                yield Check("user namespaces", "fail", f"{file} is 0", advice)
        except (OSError, ValueError):
            continue


def state(config: Config) -> Iterator[Check]:
    """Whether containers can be kept where they are to be kept."""
    root = Path(config.state_root)
    try:
        own_socket(config.state_root, NAMESPACE, "x")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (ShimError, OSError) as error:
        yield Check("state directory", "fail", str(error), "use --state-root, or set XDG_RUNTIME_DIR")
        return
    free = shutil.disk_usage(root).free
    mode = root.stat().st_mode & 0o777
    if not os.access(root, os.W_OK | os.X_OK):
        yield Check("state directory", "fail", f"{root} is not writable", "use another --state-root")
    elif mode & 0o077:
        yield Check(
            "state directory",
            "warn",
            f"{root} has mode {mode:o}",
            f"others can look into it: chmod 700 {root}",
        )
    elif free < _FREE_BYTES:
        yield Check("state directory", "warn", f"{root} has {free >> 20} MiB left", "make room")
    else:
        yield Check("state directory", "ok", f"{root}, {free >> 20} MiB free")


def terminals(_: Config) -> Iterator[Check]:
    """Whether -t can work."""
    try:
        for fd in os.openpty():
            os.close(fd)
        yield Check("terminals", "ok", "ptys can be opened")
    except OSError as error:
        yield Check(
            "terminals", "warn", f"no pty: {error.strerror}", "mount devpts at /dev/pts; without, -t fails"
        )


def runtimes(config: Config) -> Iterator[Check]:
    """Which OCI runtimes are here, and whether a container runs under each."""
    for name in dict.fromkeys([config.runtime, *_USES]):
        verdict: Verdict = "fail" if name == config.runtime else "warn"
        try:
            binary = find_binary(name)
        except ShimError:
            advice = (
                f"apt-get install {name} ({_USES[name]})"
                if name in _USES
                else "install it, or configure another"
            )
            yield Check(name, verdict, "not installed", advice)
            continue
        what = f"{binary}, {_version(binary)}"
        if failure := try_runtime(config, binary):
            yield Check(name, verdict, f"{what}: a container does not run: {failure}", _advice(name))
        else:
            yield Check(name, "ok", f"{what}: ran a container")


def _advice(name: str) -> str:
    if os.geteuid():
        return "without root, a runtime needs user namespaces and a cgroup that is delegated to you"
    if name == "runsc":
        return 'try another platform in the configuration: platform = "ptrace" or "systrap"'
    if name == "crun":
        return "use cgroup v2, or a newer crun: 1.8 does not know every kind of host"
    return "see the runtime's message; ocishim --debug run tells more"


def _version(binary: str) -> str:
    try:
        result = subprocess.run(  # noqa: S603 - a runtime that we found ourselves
            [binary, "--version"],
            capture_output=True,
            timeout=_VERSION_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not say its version ({error})"
    lines = result.stdout.decode("utf-8", "replace").splitlines()
    return lines[0] if lines else "says no version"


def checkpoint(_: Config) -> Iterator[Check]:
    """Whether containers can be checkpointed and restored."""
    binary = shutil.which("criu") or shutil.which("criu", path="/usr/sbin:/sbin")
    if binary is None:
        yield Check(
            "checkpoint",
            "warn",
            "criu is not installed",
            "only checkpoint and restore need it: apt-get install criu",
        )
        return
    try:
        result = subprocess.run(  # noqa: S603 - criu
            [binary, "check"], capture_output=True, timeout=_VERSION_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Check("checkpoint", "warn", f"{binary} check: {error}", "checkpoint and restore will not work")
        return
    if result.returncode:
        lines = result.stderr.decode("utf-8", "replace").strip().splitlines() or ["failed"]
        yield Check(
            "checkpoint", "warn", f"{binary} check: {lines[-1].strip()}", "use a newer criu for this kernel"
        )
    else:
        yield Check("checkpoint", "ok", f"{_version(binary)}, says that it works here")


def images(_: Config) -> Iterator[Check]:
    """What images can be made of, and made into containers with."""
    for program, use in _IMAGE_TOOLS.items():
        binary = shutil.which(program)
        if binary is None:
            yield Check("images", "warn", f"{program} is not installed", f"{use}: apt-get install {program}")
        else:
            yield Check("images", "ok", _version(binary))


ALL = (kernel, control_groups, permissions, state, terminals, runtimes, checkpoint, images)
