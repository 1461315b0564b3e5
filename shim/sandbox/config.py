"""What a sandbox and its containers are to be.

Values only: they are checked when they are made, and nothing of them is changed later. As a mapping, which is how a file
and the record on disk have them, members are spelt as the fields; unknown ones are errors.

Source: Kata's SandboxConfig and ContainerConfig (the names here are the OCI's where it has them).
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from shim.cgroup.group import clean_path
from shim.errors import InvalidArgument
from shim.net import InterfaceConfig, Route, parse_address, parse_route
from shim.oci.identifiers import validate_id
from shim.oci.process import parse_user

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ContainerConfig", "SandboxConfig", "interface_from", "route_from"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """A container: a ``bundle``, or a ``rootfs`` and ``args``.

    Raises:
        InvalidArgument: neither, or both; or a value can never work.
    """

    id: str
    bundle: str = ""
    """A directory with config.json; what else is given here goes over it."""
    rootfs: str = ""
    """A directory that becomes the root file system."""
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """``NAME=value`` each, after those of the bundle."""
    cwd: str = ""
    user: str = ""
    """``UID`` or ``UID:GID``; empty: as the bundle says, and root where there is none."""
    terminal: bool = False
    stdin: bool = False
    """Whether there is a stdin; with a terminal there always is."""
    read_only: bool | None = None
    """The root file system; None: as the bundle says, and writable where there is none."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    """LinuxResources."""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate_id(self.id)
        if bool(self.bundle) == bool(self.rootfs):
            raise InvalidArgument(f"container {self.id}: give a bundle or a rootfs")
        if self.rootfs and not self.args:
            raise InvalidArgument(f"container {self.id}: a rootfs needs args")
        for path in filter(None, (self.bundle, self.rootfs, self.cwd)):
            if not path.startswith("/"):
                raise InvalidArgument(f"container {self.id}: {path!r} is no absolute path")
        if self.user:
            parse_user(self.user)

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> ContainerConfig:
        """The container that ``members`` describe.

        Raises:
            InvalidArgument: an unknown member, or a wrong value; names it.
        """
        return _made(cls, members, "container", {"args": tuple, "env": tuple})

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """A sandbox.

    Raises:
        InvalidArgument: a value can never work.
    """

    id: str
    runtime: str = "runc"
    """``runc``, ``crun``, ``runsc``, another name on PATH, or an absolute path."""
    hostname: str = ""
    """Empty: the id."""
    host_network: bool = False
    """Whether its network is the host's; it has no interfaces of its own then."""
    share_pids: bool = False
    """Whether its containers see each other's processes."""
    interfaces: tuple[InterfaceConfig, ...] = ()
    routes: tuple[Route, ...] = ()
    nameservers: tuple[str, ...] = ()
    """For /etc/resolv.conf; none: the host's."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    """Above the groups of its containers; empty: what the configuration of ocishim says, else ``/ocishim``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Members of ``shim.config.Config`` for its shim, such as ``platform`` of gVisor."""
    containers: tuple[ContainerConfig, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate_id(self.id, "sandbox id")
        if self.cgroup_parent:
            clean_path(self.cgroup_parent)
        if self.host_network and (self.interfaces or self.routes):
            raise InvalidArgument(f"sandbox {self.id}: the host's network gets no interfaces and routes here")
        for what, names in (
            ("interfaces", [interface.name for interface in self.interfaces]),
            ("containers", [container.id for container in self.containers]),
        ):
            if len(set(names)) != len(names):
                raise InvalidArgument(f"sandbox {self.id}: two {what} of one name: {', '.join(names)}")

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> SandboxConfig:
        """The sandbox that ``members`` describe: addresses as text, routes as text of ip-route(8) or as members.

        Raises:
            InvalidArgument: an unknown member, or a wrong value; names it.
        """
        return _made(
            cls,
            members,
            "sandbox",
            {
                "interfaces": _each(interface_from),
                "routes": _each(route_from),
                "containers": _each(ContainerConfig.from_dict),
                "nameservers": tuple,
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON, and for ``from_dict``."""
        members = {each.name: getattr(self, each.name) for each in fields(self)}
        interfaces = [
            {**asdict(each), "addresses": [str(address) for address in each.addresses]}
            for each in self.interfaces
        ]
        return {
            **members,
            "interfaces": interfaces,
            "routes": [route.to_text() for route in self.routes],
            "containers": [each.to_dict() for each in self.containers],
            "sysctls": dict(self.sysctls),
            "options": dict(self.options),
            "annotations": dict(self.annotations),
        }


def interface_from(members: Mapping[str, Any]) -> InterfaceConfig:
    """The interface that ``members`` describe, with addresses as text.

    Raises:
        InvalidArgument: an unknown member, or a wrong value; names it.
    """
    return _made(InterfaceConfig, members, "interface", {"addresses": _each(parse_address)})


def route_from(route: Any) -> Route:
    """The route in the words of ip-route(8).

    Raises:
        InvalidArgument: it is none.
    """
    if not isinstance(route, str):
        raise InvalidArgument(f"route {route!r}: write it as 'default via 10.0.0.1'")
    return parse_route(route)


def _each(convert: Callable[[Any], _T]) -> Callable[[Any], tuple[_T, ...]]:
    def converted(values: Iterable[Any]) -> tuple[_T, ...]:
        if isinstance(values, str):
            raise TypeError("a list is expected")
        return tuple(convert(value) for value in values)

    return converted


def _made(kind: type[_T], members: Any, what: str, converters: Mapping[str, Callable[[Any], Any]]) -> _T:
    if not isinstance(members, dict):
        raise InvalidArgument(f"{what} {members!r}: an object is expected")
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in members.items():
        if name not in hints:
            raise InvalidArgument(f"{what}: unknown member {name!r}; known: {', '.join(hints)}")
        try:
            values[name] = converters[name](value) if name in converters else _checked(hints[name], value)
        except TypeError as error:
            raise InvalidArgument(f"{what}: {name} = {value!r} is not what it has to be") from error
    try:
        return kind(**values)
    except TypeError as error:
        raise InvalidArgument(f"{what}: {error}") from error


def _checked(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) is Mapping:
        allowed: tuple[type, ...] = (dict,)
    else:
        allowed = typing.get_args(hint) or (hint,)
    # A bool is an int to Python, and never what was meant here.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise TypeError(value)
    return value
