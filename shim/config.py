"""Configuration: one frozen value, read from TOML, overlaid by what a client sends with Create.

Order, later wins: the defaults below, ``/etc/ocishim/config.toml`` (or ``--config``, or ``OCISHIM_CONFIG``), the TOML
body of ``runtimeoptions.v1.Options``. Keys are spelt as the fields. An unknown key is an error that names it: a
misspelt limit must not pass for a limit.
"""

from __future__ import annotations

import os
import tomllib
import types
import typing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shim.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "Config",
    "default_data_root",
    "default_state_root",
    "load",
    "overlay",
    "overlay_fields",
    "section",
]

_Value = TypeVar("_Value", bound="DataclassInstance")
_GROUPS = ("container", "pod", "node")
# Tables of the file that are not a shim's: who needs one asks for it.
_SECTIONS = ("daemon", "networks")
_DEFAULT_FILE = Path("/etc/ocishim/config.toml")


def default_state_root() -> str:
    """``/run/ocishim`` for root, ``$XDG_RUNTIME_DIR/ocishim`` for others."""
    if os.geteuid() == 0:
        return "/run/ocishim"
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return f"{base}/ocishim"


def default_data_root() -> str:
    """``/var/lib/ocishim`` for root, ``$XDG_DATA_HOME/ocishim`` for others."""
    if os.geteuid() == 0:
        return "/var/lib/ocishim"
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return f"{base}/ocishim"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set. Times are seconds, sizes bytes."""

    state_root: str = field(default_factory=default_state_root)
    """Where containers, sockets and the runtimes' own state are kept; mode 0700."""
    data_root: str = field(default_factory=default_data_root)
    """Where is kept what outlives a boot: catalog, tokens, images, checkpoints; mode 0700."""
    runtime: str = "runc"
    """``runc``, ``crun``, ``runsc``, another name on PATH, or an absolute path."""
    runtime_root: str = ""
    """The OCI runtime's ``--root``, to which the containerd namespace is added; empty: below ``state_root``."""
    runtime_timeout: float = 60.0
    """How long one call of the OCI runtime may take before it is killed."""
    cgroup_parent: str = ""
    """Parent of every container's cgroup; empty: what the bundle's ``cgroupsPath`` says, else ``/ocishim``."""
    systemd_cgroup: bool = False
    """Leave cgroups to systemd through the runtime (``cgroupsPath`` is then ``slice:prefix:name``)."""
    cpu_nanos: int = 0
    """Billionths of a CPU that each container may use; 0: no limit of ours."""
    memory_bytes: int = 0
    """``memory.max`` of each container; 0: no limit of ours."""
    no_pivot_root: bool = False
    no_new_keyring: bool = False
    io_uid: int = 0
    io_gid: int = 0
    """Owner of the pipes a container gets as stdio."""
    drain_timeout: float = 2.0
    """How long Delete waits for output that a left-over child of the container still holds open."""
    fifo_timeout: float = 30.0
    """How long Create or Start waits for a reader of an output FIFO; 0 (the command line's): not at all, the
    output waits in the FIFO."""
    logger_timeout: float = 10.0
    """How long a ``binary://`` logger may take to say that it is ready."""
    platform: str = ""
    """gVisor's ``--platform``; empty: runsc's own default, or what works here."""
    runsc_config: dict[str, str] = field(default_factory=dict)
    """Further ``--key=value`` flags of every runsc call."""
    auto_remove: bool = False
    """The shim deletes its container, and ends, once the container has ended."""
    group: str = "pod"
    """Which containers share a shim process under containerd: ``container`` (none), ``pod`` (those of a Kubernetes pod),
    ``node`` (all of a namespace)."""
    shim_cgroup: str = ""
    """A cgroup that the shim moves itself into; empty: it stays in its starter's."""
    storage: str = "filesystem"
    """Where the records of sandboxes are kept: ``filesystem``, ``leveldb``, or the name of an entry point ``ocishim.storage``."""
    idle_timeout: float = 30.0
    """A shim without containers and without connections ends after this."""
    debug: bool = False


def _accepts(annotation: object, value: object) -> bool:
    origin = typing.get_origin(annotation)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    if isinstance(annotation, types.GenericAlias):
        return False
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(annotation, type) and isinstance(value, annotation)


@cache
def _fields(kind: type) -> dict[str, Any]:
    """The types of the fields of a dataclass, by name."""
    return typing.get_type_hints(kind)


def overlay(config: Config, body: str, origin: str) -> Config:
    """``config`` with the keys of the TOML text ``body``.

    Raises:
        InvalidArgument: ``body`` is not TOML, a key is unknown or of the wrong type; names ``origin`` and the key.
    """
    return overlay_table(config, parse(body, origin), origin)


def parse(body: str, origin: str) -> dict[str, Any]:
    """The keys of the TOML text ``body``, whatever they are.

    Raises:
        InvalidArgument: ``body`` is not TOML; names ``origin``.
    """
    try:
        return tomllib.loads(body)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{origin} is not valid TOML: {error}") from error


def overlay_table(config: Config, table: dict[str, Any], origin: str) -> Config:
    """``config`` with the keys of ``table``.

    Raises:
        InvalidArgument: a key is unknown or of the wrong type; names ``origin`` and the key.
    """
    changed = overlay_fields(config, table, origin)
    if table.get("group", "pod") not in _GROUPS:
        raise InvalidArgument(f"{origin}: group = {table['group']!r} is none of {', '.join(_GROUPS)}")
    if "cgroup_parent" in table and ".." in table["cgroup_parent"].split("/"):
        raise InvalidArgument(f"{origin}: cgroup_parent = {table['cgroup_parent']!r} must not contain '..'")
    return changed


def overlay_fields(value: _Value, table: dict[str, Any], origin: str) -> _Value:
    """``value``, an instance of any dataclass, with the keys of ``table``.

    Raises:
        InvalidArgument: a key is unknown or of the wrong type; names ``origin`` and the key.
    """
    known = _fields(type(value))
    for key, given in table.items():
        if key not in known:
            raise InvalidArgument(f"{origin}: unknown key {key!r}; known keys: {', '.join(sorted(known))}")
        if not _accepts(known[key], given):
            raise InvalidArgument(f"{origin}: {key} = {given!r} is not a valid {known[key].__name__}")
    return replace(value, **table)


def load(path: str | None = None) -> Config:
    """The configuration of ``path``, else of ``OCISHIM_CONFIG``, else of /etc, else the defaults.

    Raises:
        NotFound: a file that was asked for does not exist.
        InvalidArgument: it cannot be read or is not valid.
    """
    table, origin = _read(path)
    return overlay_table(Config(), {k: v for k, v in table.items() if k not in _SECTIONS}, origin)


def section(name: str, path: str | None = None) -> dict[str, Any]:
    """The table ``name`` of the file that ``load`` reads; empty where there is none. Its keys are not checked.

    Raises:
        NotFound: a file that was asked for does not exist.
        InvalidArgument: it cannot be read or is not valid.
    """
    table, origin = _read(path)
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise InvalidArgument(f"{origin}: {name} = {found!r} is no table; write [{name}]")
    return found


def _read(path: str | None) -> tuple[dict[str, Any], str]:
    """The keys of the file, and its name."""
    asked = path or os.environ.get("OCISHIM_CONFIG")
    file = Path(asked) if asked else _DEFAULT_FILE
    try:
        body = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if asked:
            raise NotFound(f"configuration file {file} does not exist") from None
        return {}, str(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"configuration file {file} cannot be read: {error}") from error
    return parse(body, str(file)), str(file)
