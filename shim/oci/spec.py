"""config.json: read, checked, looked at and changed.

``Spec`` is a view of a document that has been checked once; the document itself (``raw``) is what goes on to the
runtime, with whatever we do not know. The ``with_`` functions return a changed copy and leave their argument alone;
the copy shares what did not change, so neither may be edited in place.

What is checked: all that we read, and the breakages that runtimes answer with a stack trace or not at all.

Source: runtime-spec config.md and config-linux.md, 1.0 to 1.2; ``runc spec`` for the default document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from shim.errors import InvalidArgument
from shim.oci.defaults import default_spec
from shim.oci.process import PROCESS, with_process_terminal
from shim.oci.resources import RESOURCES, merge
from shim.oci.schema import (
    BOOLEAN,
    INT64,
    TEXT,
    UINT32,
    Json,
    array,
    load_object,
    mapping,
    record,
    string,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Spec",
    "default_spec",
    "parse",
    "to_json",
    "with_absolute_paths",
    "with_annotation",
    "with_cgroups_path",
    "with_devices_only",
    "with_network_hook",
    "with_resources",
    "with_terminal",
    "without_pid_path",
]

_VERSION = re.compile(r"(\d+)\.\d+\.\d+(?:[-+].*)?", re.ASCII)
_TEXTS = array(TEXT, "a list of strings")
_ABSOLUTE = string("an absolute path", lambda s: s.startswith("/"))
_NON_EMPTY = string("a non-empty string", bool)
_ID_MAPPINGS = array(record({"containerID": UINT32, "hostID": UINT32, "size": UINT32}), "a list of objects")
_HOOKS = array(record({"path": _ABSOLUTE}, args=_TEXTS, env=_TEXTS, timeout=INT64), "a list of objects")
_NAMESPACES = frozenset({"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"})

_SPEC = record(
    {
        "ociVersion": _NON_EMPTY,
        "process": PROCESS,
        "root": record({"path": _NON_EMPTY}, readonly=BOOLEAN),
    },
    hostname=TEXT,
    domainname=TEXT,
    mounts=array(
        record(
            {"destination": _NON_EMPTY},
            type=TEXT,
            source=TEXT,
            options=_TEXTS,
            uidMappings=_ID_MAPPINGS,
            gidMappings=_ID_MAPPINGS,
        ),
        "a list of objects",
    ),
    hooks=mapping(_HOOKS, "an object of lists"),
    annotations=mapping(TEXT, "an object of strings"),
    linux=record(
        namespaces=array(
            record(
                {
                    "type": string(
                        "one of " + ", ".join(sorted(_NAMESPACES)),
                        _NAMESPACES.__contains__,
                    )
                },
                path=TEXT,
            ),
            "a list of objects",
        ),
        cgroupsPath=TEXT,
        resources=RESOURCES,
        uidMappings=_ID_MAPPINGS,
        gidMappings=_ID_MAPPINGS,
        sysctl=mapping(TEXT, "an object of strings"),
        devices=array(
            record(
                {"path": _ABSOLUTE, "type": _NON_EMPTY},
                major=INT64,
                minor=INT64,
                fileMode=UINT32,
                uid=UINT32,
                gid=UINT32,
            ),
            "a list of objects",
        ),
        maskedPaths=_TEXTS,
        readonlyPaths=_TEXTS,
        rootfsPropagation=TEXT,
        mountLabel=TEXT,
        seccomp=record({"defaultAction": _NON_EMPTY}, architectures=_TEXTS),
    ),
)


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked config.json. What a property returns is part of ``raw``: to look at, not to edit."""

    raw: Json
    origin: str
    """What errors call the document, for example ``config.json of /path``."""

    @property
    def process(self) -> Json:
        """The whole Process object of init."""
        process: Json = self.raw["process"]
        return process

    @property
    def terminal(self) -> bool:
        """Whether init runs on a pty."""
        return bool(self.process.get("terminal"))

    @property
    def root_path(self) -> str:
        """The root filesystem; relative to the bundle unless absolute."""
        return str(self.raw["root"]["path"])

    @property
    def annotations(self) -> dict[str, str]:
        """Whatever others want to remember about the container."""
        return self.raw.get("annotations") or {}

    @property
    def cgroups_path(self) -> str:
        """``linux.cgroupsPath`` as it stands: a path, or systemd's ``slice:prefix:name``; may be empty."""
        return _linux(self.raw).get("cgroupsPath") or ""

    @property
    def resources(self) -> Json:
        """``linux.resources``; may be empty."""
        return _linux(self.raw).get("resources") or {}

    @property
    def pid_namespace(self) -> str:
        """``private``, ``shared`` (the caller's, when the list has none), or the path of the one to join.

        Only the end of a private one kills everything in the container along with init.
        """
        for namespace in _linux(self.raw).get("namespaces") or []:
            if namespace["type"] == "pid":
                return namespace.get("path") or "private"
        return "shared"


def _linux(raw: Mapping[str, Any]) -> Json:
    return raw.get("linux") or {}


def _check_version(raw: Json, origin: str) -> None:
    version = raw["ociVersion"]
    match = _VERSION.fullmatch(version)
    if not match or match[1] != "1":
        raise InvalidArgument(f"{origin}: ociVersion {version} is not supported; 1.0.0 to 1.x are")


def _check_namespaces(raw: Json, origin: str) -> None:
    types = [namespace["type"] for namespace in _linux(raw).get("namespaces") or []]
    for kind in types:
        if types.count(kind) > 1:
            raise InvalidArgument(f"{origin}: linux.namespaces has {kind!r} more than once")


def parse(data: bytes, origin: str) -> Spec:
    """The checked document in ``data``.

    Raises:
        InvalidArgument: one line that begins with ``origin`` and names the place and the value.
    """
    raw = load_object(data, _SPEC, origin)
    _check_version(raw, origin)
    _check_namespaces(raw, origin)
    return Spec(raw, origin)


def _with_linux(raw: Mapping[str, Any], **members: object) -> Json:
    return {**raw, "linux": {**_linux(raw), **members}}


def _absolute_mount(mount: Json, bundle: PurePosixPath) -> Json:
    # Only a bind mount's source is a path; "proc" is the source of many a proc mount.
    options = mount.get("options") or []
    binds = mount.get("type") == "bind" or "bind" in options or "rbind" in options
    source = mount.get("source")
    return {**mount, "source": str(bundle / source)} if binds and source else mount


def with_absolute_paths(raw: Mapping[str, Any], bundle_dir: str) -> Json:
    """``raw`` with root.path and the sources of bind mounts absolute, so that it works in any other directory."""
    bundle = PurePosixPath(bundle_dir)
    changed = {**raw, "root": {**raw["root"], "path": str(bundle / raw["root"]["path"])}}
    if raw.get("mounts"):
        changed["mounts"] = [_absolute_mount(mount, bundle) for mount in raw["mounts"]]
    return changed


def with_cgroups_path(raw: Mapping[str, Any], path: str) -> Json:
    """``raw`` with this ``linux.cgroupsPath``."""
    return _with_linux(raw, cgroupsPath=path)


def with_resources(raw: Mapping[str, Any], resources: Mapping[str, Any]) -> Json:
    """``raw`` with ``resources`` laid over its ``linux.resources``."""
    return _with_linux(raw, resources=merge(_linux(raw).get("resources") or {}, resources))


def with_devices_only(raw: Mapping[str, Any]) -> Json:
    """``raw`` whose ``linux.resources`` has its rules for devices, and no limits."""
    resources = _linux(raw).get("resources") or {}
    return _with_linux(raw, resources={key: value for key, value in resources.items() if key == "devices"})


def with_terminal(raw: Mapping[str, Any], *, terminal: bool, size: tuple[int, int] | None = None) -> Json:
    """``raw`` whose init has a terminal of ``size`` (rows, columns), or has none."""
    return {**raw, "process": with_process_terminal(raw["process"], terminal=terminal, size=size)}


def with_annotation(raw: Mapping[str, Any], key: str, value: str) -> Json:
    """``raw`` with this annotation too."""
    return {**raw, "annotations": {**(raw.get("annotations") or {}), key: value}}


def with_network_hook(raw: Mapping[str, Any], hook: Mapping[str, Any]) -> Json:
    """``hook`` is the first of ``createRuntime`` if the network namespace is the container's own, made with it."""
    namespaces = _linux(raw).get("namespaces") or []
    if not any(each["type"] == "network" and not each.get("path") for each in namespaces):
        return dict(raw)
    hooks = raw.get("hooks") or {}
    others = [each for each in hooks.get("createRuntime") or [] if each != hook]
    return {**raw, "hooks": {**hooks, "createRuntime": [hook, *others]}}


def without_pid_path(raw: Mapping[str, Any]) -> Json:
    """``raw`` without the pid namespace that it says is to be joined; one of its own stays."""
    namespaces = _linux(raw).get("namespaces") or []
    return _with_linux(raw, namespaces=[n for n in namespaces if n["type"] != "pid" or not n.get("path")])
