"""A sandbox from a file that a person wrote: YAML, or TOML where it is named so.

Relative paths are relative to the file.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.errors import InvalidArgument, from_os_error

if TYPE_CHECKING:
    from shim.sandbox import SandboxConfig

__all__ = ["read_config"]

_PATHS = ("bundle", "rootfs")


def read_config(file: str) -> SandboxConfig:
    """What ``file`` (``-``: stdin, YAML) describes.

    Raises:
        NotFound: it does not exist.
        InvalidArgument: it is not valid; says where.
    """
    from shim.sandbox import SandboxConfig  # noqa: PLC0415 - start-up time

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, f"{file} cannot be read") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file} is no text: {error}") from error
    members = _parsed(text, file)
    folder = Path.cwd() if file == "-" else Path(file).absolute().parent
    try:
        return SandboxConfig.from_dict(_absolute(members, folder))
    except InvalidArgument as error:
        raise InvalidArgument(f"{file}: {error}") from error


def _parsed(text: str, file: str) -> Any:
    if file.endswith(".toml"):
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidArgument(f"{file} is no TOML: {error}") from error
    import yaml  # noqa: PLC0415 - start-up time

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidArgument(f"{file} is no YAML: {error}") from error


def _absolute(members: Any, folder: Path) -> Any:
    containers = members.get("containers") if isinstance(members, dict) else None
    if not isinstance(containers, list):
        return members
    return {**members, "containers": [_with_paths(each, folder) for each in containers]}


def _with_paths(container: Any, folder: Path) -> Any:
    if not isinstance(container, dict):
        return container
    paths = {
        name: str((folder / container[name]).resolve())
        for name in _PATHS
        if isinstance(container.get(name), str) and container[name]
    }
    return {**container, **paths}
