"""What a client sends as ``options`` with Create, laid over the shim's configuration.

Three forms: nothing, ``containerd.runc.v1.Options``, and ``runtimeoptions.v1.Options`` with TOML in it or in a file it names.
Source: containerd api/types/runc/options, api/types/runtimeoptions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from shim.config import overlay
from shim.errors import InvalidArgument
from shim.proto.runc_options_pb2 import Options as RuncOptions
from shim.proto.runtime_options_pb2 import Options as RuntimeOptions

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

    from shim.config import Config

__all__ = ["is_options", "with_options"]

_RUNC = "containerd.runc.v1.Options"
_RUNTIME = ("runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options")


def is_options(message: AnyMessage) -> bool:
    """Whether ``with_options`` knows its type."""
    return message.type_url.rpartition("/")[2] in (_RUNC, *_RUNTIME)


def with_options(config: Config, options: AnyMessage) -> Config:
    """``config`` with what the client asks for.

    Raises:
        InvalidArgument: an unknown type, or one that cannot be decoded; names it.
    """
    name = options.type_url.rpartition("/")[2]
    if not name:
        return config
    try:
        if name == _RUNC:
            return _with_runc_options(config, RuncOptions.FromString(options.value))
        if name in _RUNTIME:
            return _with_runtime_options(config, RuntimeOptions.FromString(options.value))
    except DecodeError as error:
        raise InvalidArgument(f"options of type {options.type_url} cannot be decoded: {error}") from error
    raise InvalidArgument(f"options of type {options.type_url} are not known; known: {_RUNC}, {_RUNTIME[0]}")


def _with_runc_options(config: Config, options: RuncOptions) -> Config:
    return replace(
        config,
        runtime=options.binary_name or config.runtime,
        runtime_root=options.root or config.runtime_root,
        systemd_cgroup=options.systemd_cgroup or config.systemd_cgroup,
        no_pivot_root=options.no_pivot_root or config.no_pivot_root,
        no_new_keyring=options.no_new_keyring or config.no_new_keyring,
        io_uid=options.io_uid or config.io_uid,
        io_gid=options.io_gid or config.io_gid,
        shim_cgroup=options.shim_cgroup or config.shim_cgroup,
    )


def _with_runtime_options(config: Config, options: RuntimeOptions) -> Config:
    if not options.config_path:
        origin = "the TOML of runtimeoptions.v1.Options"
        try:
            return overlay(config, options.config_body.decode("utf-8"), origin)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{origin} is not UTF-8") from error
    try:
        body = Path(options.config_path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8, or a NUL byte in the path
        raise InvalidArgument(f"ConfigPath {options.config_path!r} cannot be read: {error}") from error
    return overlay(config, body, options.config_path)
