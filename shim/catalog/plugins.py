"""A plugin of the catalog: what is run, from which image, by which runtime, and by which digest it is known.

Source: Vault's /sys/plugins/catalog.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shim.catalog.fields import Fields
from shim.catalog.names import canonical_version, validate_name
from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TYPES", "Plugin", "validate_type"]

TYPES = ("auth", "database", "secret")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def validate_type(text: str) -> str:
    """``text``, which is a type of plugins.

    Raises:
        InvalidArgument: it is none.
    """
    if text not in TYPES:
        raise InvalidArgument(f'"{text[:256]}" is not a supported plugin type')
    return text


@dataclass(frozen=True, slots=True)
class Plugin:
    """What is registered. ``env`` may hold secrets: it is kept, and used, and never told."""

    type: str
    name: str
    version: str = ""
    """``vX.Y.Z``, or empty."""
    sha256: str = ""
    """64 hexadecimal digits, in small letters."""
    command: str = ""
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    oci_image: str = ""
    """Without a tag: that is the version."""
    runtime: str = ""
    """The name of a registered runtime, or empty."""

    @classmethod
    def from_input(cls, type: str, name: str, given: Mapping[str, Any]) -> tuple[Plugin, list[str]]:  # noqa: A002 - Vault's name
        """What a client sent, and the names in it that mean nothing. A name and a type in it do not count.

        Raises:
            InvalidArgument: it cannot be registered.
        """
        validate_type(type)
        validate_name(name, "plugin")
        fields = Fields(given)
        fields.ignore("name", "type")
        version = canonical_version(fields.text("version"))
        sha256 = _digest(fields.text("sha256", "sha_256"))
        command, args = _command_line(fields.text("command"), fields.texts("args"))
        plugin = cls(
            type=type,
            name=name,
            version=version,
            sha256=sha256,
            command=command,
            args=args,
            env=_environment(fields.texts("env")),
            oci_image=_image(fields.text("oci_image")),
            runtime=fields.text("runtime"),
        )
        if not plugin.command and not plugin.oci_image:
            raise InvalidArgument("must provide at least one of command or oci_image")
        return plugin, fields.unknown()

    def to_data(self) -> dict[str, Any]:
        """What a client gets: not the environment, and the image and the runtime only where there is one."""
        shown = {"oci_image": self.oci_image, "runtime": self.runtime}
        return {
            "name": self.name,
            "args": list(self.args),
            "command": self.command,
            "sha256": self.sha256,
            "builtin": False,
            "version": self.version,
            **{key: value for key, value in shown.items() if value},
        }

    def to_summary(self) -> dict[str, Any]:
        """What a client gets of it in a list with details."""
        return {
            "type": self.type,
            **{k: v for k, v in self.to_data().items() if k not in {"args", "command"}},
        }

    def to_record(self) -> dict[str, Any]:
        """All of it, as it is kept."""
        return {
            **self.to_data(),
            "type": self.type,
            "env": list(self.env),
            "oci_image": self.oci_image,
            "runtime": self.runtime,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Plugin:
        """What ``to_record`` gave."""
        members = {key: value for key, value in record.items() if key != "builtin"}
        return cls(**{**members, "args": tuple(record["args"]), "env": tuple(record["env"])})


def _digest(text: str) -> str:
    if not text:
        raise InvalidArgument("missing SHA-256 value")
    if not _SHA256.fullmatch(text):
        raise InvalidArgument(f'Could not decode SHA-256 value from hex "{text[:80]}": 64 digits are needed')
    return text.lower()


def _image(text: str) -> str:
    """Vault finds that out when it runs the plugin, which it does before it registers it."""
    if ":" in text or "@" in text:
        raise InvalidArgument(
            f'oci_image "{text[:256]}" must have neither tag nor digest: these are version and sha256'
        )
    return text


def _command_line(command: str, args: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Once args were part of command, and still may be."""
    first, *more = command.split(" ")
    if more and args:
        raise InvalidArgument("must not specify args in command and args field")
    return first, tuple(more) or args


def _environment(variables: tuple[str, ...]) -> tuple[str, ...]:
    # No value in the text: it may be a secret, and without a name all of it may be the value.
    for position, variable in enumerate(variables):
        if not variable.partition("=")[0] or "=" not in variable:
            raise InvalidArgument(f'field "env": number {position + 1} is no variable; use NAME=value')
    return variables
