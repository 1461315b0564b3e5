"""The config.json that ``ocishim spec`` writes: what ``runc spec`` writes, which every runtime accepts.

The cgroup namespace is the one addition: without it a container reads the host's cgroup paths.

Source: ``runc spec`` and ``runc spec --rootless`` (libcontainer/specconv/example.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.oci.schema import Json

__all__ = ["default_spec"]

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_CAPABILITY_SETS = ("bounding", "effective", "permitted", "ambient")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def _mount(destination: str, kind: str, source: str, *options: str) -> Json:
    mount: Json = {"destination": destination, "type": kind, "source": source}
    return {**mount, "options": list(options)} if options else mount


def _mounts(*, rootless: bool) -> list[Json]:
    hardened = ("nosuid", "noexec", "nodev")
    # A user namespace with one id has no group 5, and may not mount a sysfs of the host's network namespace.
    pts_group = () if rootless else ("gid=5",)
    sys_fs = ("none", "/sys", "rbind") if rootless else ("sysfs", "sysfs")
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            *pts_group,
        ),
        _mount("/dev/shm", "tmpfs", "shm", *hardened, "mode=1777", "size=65536k"),  # noqa: S108 the container's
        _mount("/dev/mqueue", "mqueue", "mqueue", *hardened),
        _mount("/sys", *sys_fs, *hardened, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *hardened, "relatime", "ro"),
    ]


def _process(args: Sequence[str], *, terminal: bool) -> Json:
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": [_PATH, *(["TERM=xterm"] if terminal else [])],
        "cwd": "/",
        "capabilities": {name: list(_CAPABILITIES) for name in _CAPABILITY_SETS},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _linux(*, rootless: bool, uid: int, gid: int) -> Json:
    namespaces = ["pid", "ipc", "uts", "mount", "cgroup", "user" if rootless else "network"]
    linux: Json = {
        "namespaces": [{"type": name} for name in namespaces],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return linux


def default_spec(
    args: Sequence[str] = ("sh",),
    rootfs: str = "rootfs",
    *,
    terminal: bool = True,
    rootless: bool = False,
    uid: int = 0,
    gid: int = 0,
) -> Json:
    """A config.json that runs ``args`` in ``rootfs``, read-only, with few capabilities and its own namespaces.

    ``rootless``: one that the user ``uid`` of group ``gid`` can run, as root of a user namespace with nobody else in
    it and on the host's network.
    """
    return {
        "ociVersion": "1.0.2",
        "process": _process(args, terminal=terminal),
        "root": {"path": rootfs, "readonly": True},
        "hostname": "ocishim",
        "mounts": _mounts(rootless=rootless),
        "linux": _linux(rootless=rootless, uid=uid, gid=gid),
    }
