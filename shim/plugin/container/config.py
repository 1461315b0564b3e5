"""What the container of a plugin is to be: go-plugin's plugincontainer.Config, in Python's spelling.

Values only, checked when they are made. What can be checked against this host alone (images, runtimes, networks) is checked
when the plugin is started.

Source: hashicorp/go-secure-stdlib, plugincontainer.Config; Docker's container, host and network configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shim.cgroup.group import clean_path
from shim.cgroup.limits import cpu_nanos_to_quota
from shim.errors import InvalidArgument
from shim.net.route import parse_host

__all__ = ["Config", "EndpointSettings"]

_DIGEST = re.compile(r"(sha256:)?([0-9a-f]{64})", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
# gid_t has 32 bits, of which the last value means "none".
_MAX_GID = 2**32 - 2
_MAX_BYTES = 2**63 - 1

_TEXTS = ("image", "tag", "sha256", "runtime", "cgroup_parent")
_FLAGS = ("rootless", "disable_network", "cap_ipc_lock", "debug")
_NUMBERS = {"group_add": _MAX_GID, "nano_cpus": _MAX_BYTES, "memory": _MAX_BYTES}
_LISTS = ("entrypoint", "args", "env")


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How a plugin is connected to one network. What is empty is chosen for it.

    Raises:
        InvalidArgument: ``ip_address`` is none.
    """

    ip_address: str = ""
    """Of the network's subnet, without a prefix length."""
    mac_address: str = ""

    def __post_init__(self) -> None:
        for name in ("ip_address", "mac_address"):
            _check_text(name, getattr(self, name))
        if self.ip_address:
            parse_host(self.ip_address, "ip_address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a plugin's container is run.

    Raises:
        InvalidArgument: a value can never work; one line that names it.
    """

    image: str
    """Without the tag: ``hashicorp/vault-plugin-auth-jwt``."""
    tag: str = ""
    """Empty: ``latest``; with a ``sha256``: any."""
    sha256: str = ""
    """The image's id, or the digest of its manifest, with or without ``sha256:``. An image of that name has to have it."""
    entrypoint: tuple[str, ...] | None = None
    """In place of the image's; None: the image's."""
    args: tuple[str, ...] | None = None
    """In place of the image's Cmd; None: the image's, if the entrypoint is, too."""
    env: tuple[str, ...] = ()
    """``NAME=value`` each; over those of the image and of go-plugin."""
    group_add: int = 0
    """A further group of the container's processes, 0: none; that of the plugin's sockets (the client's
    ``unix_socket_group``)."""
    rootless: bool = False
    """The container's users are others on the host: what is made in the socket folder is also ours to write, by an ACL, and the
    plugin may write ours (CAP_DAC_OVERRIDE). Needs ``group_add``, for without it the sockets are nobody else's."""
    cap_ipc_lock: bool = False
    """Whether the plugin may lock its memory (CAP_IPC_LOCK)."""
    disable_network: bool = False
    """Whether it has a loopback and nothing else."""
    endpoints_config: Mapping[str, EndpointSettings] = field(default_factory=dict)
    """Its networks, of those in the tables ``[networks.NAME]`` of ocishim's configuration. Neither these nor
    ``disable_network``: it has the host's network."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Annotations of its sandbox."""
    runtime: str = ""
    """An OCI runtime; empty: the one of ocishim's configuration."""
    cgroup_parent: str = ""
    """The cgroup above the plugin's; empty: ocishim's."""
    nano_cpus: int = 0
    """Billionths of a CPU; 0: no limit."""
    memory: int = 0
    """Bytes; 0: no limit."""
    debug: bool = False
    """Whether an ended plugin is kept until ``kill``, and ``diagnose`` tells its environment and its last output."""

    def __post_init__(self) -> None:
        self._check_types()
        self._check_image()
        self._check_limits()
        for text in self.env:
            if not text.partition("=")[1] or text.startswith("="):
                raise InvalidArgument(f"env: {_shown(text)} is not NAME=value")
        if self.rootless and not self.group_add:
            raise InvalidArgument(
                "rootless needs group_add: without a group nobody else may write the sockets"
            )
        if self.disable_network and self.endpoints_config:
            raise InvalidArgument("disable_network and endpoints_config exclude each other")

    @property
    def digest(self) -> str:
        """``sha256:<hex>``; empty where none was given."""
        found = _DIGEST.fullmatch(self.sha256)
        return f"sha256:{found[2]}" if found else ""

    @property
    def reference(self) -> str:
        """``image:tag``, or the image alone."""
        return f"{self.image}:{self.tag}" if self.tag else self.image

    def _check_types(self) -> None:
        for name in _TEXTS:
            _check_text(name, getattr(self, name))
        for name in _FLAGS:
            if not isinstance(value := getattr(self, name), bool):
                raise InvalidArgument(f"{name} = {_shown(value)} is neither True nor False")
        for name, most in _NUMBERS.items():
            _check_number(name, getattr(self, name), most)
        for name in _LISTS:
            # Frozen: a list would be the caller's to change.
            object.__setattr__(self, name, _checked_list(name, getattr(self, name)))
        for name, kind in (("labels", str), ("endpoints_config", EndpointSettings)):
            object.__setattr__(self, name, _checked_mapping(name, getattr(self, name), kind))

    def _check_image(self) -> None:
        if not self.image:
            raise InvalidArgument("image must not be empty")
        if ":" in self.image or "@" in self.image:
            raise InvalidArgument(
                f"image {_shown(self.image)} must not have a ':' or '@': use tag and sha256"
            )
        if self.tag and not _TAG.fullmatch(self.tag):
            raise InvalidArgument(
                f"tag {_shown(self.tag)}: use letters, digits, '_', '.' and '-', 128 at most"
            )
        if self.sha256 and not self.digest:
            raise InvalidArgument(f"sha256 {_shown(self.sha256)} is not 64 lowercase hexadecimal digits")

    def _check_limits(self) -> None:
        try:
            if self.cgroup_parent:
                clean_path(self.cgroup_parent)
        except InvalidArgument as error:
            raise InvalidArgument(f"cgroup_parent: {error}") from error
        try:
            if self.nano_cpus:
                cpu_nanos_to_quota(self.nano_cpus)
        except InvalidArgument as error:
            raise InvalidArgument(f"nano_cpus: {error}") from error


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not _is_utf8(value):
        raise InvalidArgument(f"{name} = {_shown(value)} is no text")
    if "\0" in value or "\n" in value:
        raise InvalidArgument(f"{name} = {_shown(value)} has a NUL or a newline in it")


def _is_utf8(text: str) -> bool:
    # config.json is, and has no way to say anything else.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_number(name: str, value: object, most: int) -> None:
    # A bool is an int to Python, and never what was meant.
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(f"{name} = {_shown(value)} is no number")
    if not 0 <= value <= most:
        raise InvalidArgument(f"{name} = {value}: use 0 to {most}")


def _checked_list(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None and name != "env":
        return None
    if not isinstance(value, list | tuple) or not all(
        isinstance(each, str) and _is_utf8(each) for each in value
    ):
        raise InvalidArgument(f"{name} = {_shown(value)} is no list of texts")
    if any("\0" in each for each in value):
        raise InvalidArgument(f"{name} = {_shown(value)} has a NUL in it")
    return tuple(value)


def _checked_mapping(name: str, value: Any, kind: type) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{name} = {_shown(value)} is no mapping")
    for key, each in value.items():
        _check_text(f"{name}: a name", key)
        if kind is str:
            _check_text(f"{name}: {key}", each)
        elif not isinstance(each, kind):
            raise InvalidArgument(f"{name}: {key} = {_shown(each)} is no {kind.__name__}")
    return dict(value)
