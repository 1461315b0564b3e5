"""What a client sends as ``options`` with Create and Checkpoint.

Those of Create are laid over the shim's configuration. Four forms: nothing, ``containerd.runc.v1.Options``, what clients of
containerd 1.x send in its place (``containerd.linux.runc.CreateOptions``), and ``runtimeoptions.v1.Options`` with TOML in
it or in a file it names.

containerd itself looks for the path of an image in the options of runtimes that are called io.containerd.runc only: for
ours the options alone tell of it, and Checkpoint's own path is then a directory that containerd made up.

The options of a runtime come to ``start`` as well. Of a sandbox they come nowhere else (CreateSandbox has those of the pod
in their place), so ``start`` keeps them in the bundle.

Source: containerd api/types/runc/options, api/types/runtimeoptions, 1.6 runtime/linux/runctypes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from shim.config import overlay_table, parse
from shim.errors import InvalidArgument
from shim.proto.linux_options_pb2 import CheckpointOptions as LinuxCheckpointOptions
from shim.proto.linux_options_pb2 import CreateOptions as LinuxCreateOptions
from shim.proto.runc_options_pb2 import CheckpointOptions as RuncCheckpointOptions
from shim.proto.runc_options_pb2 import Options as RuncOptions
from shim.proto.runtime_options_pb2 import Options as RuntimeOptions

if TYPE_CHECKING:
    from shim.config import Config

__all__ = [
    "checkpoint_options",
    "is_options",
    "restored",
    "save_start_options",
    "start_options",
    "with_options",
]

_RUNC = "containerd.runc.v1.Options"
_LINUX = "containerd.linux.runc.CreateOptions"
_LINUX_CHECKPOINT = "containerd.linux.runc.CheckpointOptions"
_START_OPTIONS = "start-options"
_RUNTIME = ("runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options")
_RUNC_WORDS = {field.name.title().replace("_", ""): field.name for field in RuncOptions.DESCRIPTOR.fields}


class Restored(NamedTuple):
    """Both empty when nothing is restored."""

    image: str = ""
    """The path of the checkpoint."""
    work: str = ""
    """Where criu works and leaves its log; empty: in a directory of ours."""


def is_options(message: AnyMessage) -> bool:
    """Whether ``with_options`` knows its type."""
    return message.type_url.rpartition("/")[2] in (_RUNC, _LINUX, *_RUNTIME)


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
        if name == _LINUX:
            return _with_linux_options(config, LinuxCreateOptions.FromString(options.value))
        if name in _RUNTIME:
            return _with_runtime_options(config, RuntimeOptions.FromString(options.value))
    except DecodeError as error:
        raise InvalidArgument(f"options of type {options.type_url} cannot be decoded: {error}") from error
    raise InvalidArgument(f"options of type {options.type_url} are not known; known: {_RUNC}, {_RUNTIME[0]}")


def save_start_options(bundle: Path, options: AnyMessage) -> None:
    """``start_options`` finds ``options``, of whatever type they are."""
    (bundle / _START_OPTIONS).write_bytes(options.SerializeToString())


def start_options(bundle: str) -> AnyMessage:
    """What ``start`` was told for the sandbox in ``bundle``; without a type when that was nothing.

    Raises:
        InvalidArgument: the file is not what was kept.
    """
    try:
        return AnyMessage.FromString(Path(bundle, _START_OPTIONS).read_bytes())
    except FileNotFoundError:
        return AnyMessage()
    except (OSError, DecodeError) as error:
        raise InvalidArgument(f"the options of the sandbox in {bundle} cannot be read: {error}") from error


def restored(options: AnyMessage) -> Restored:
    """What checkpoint Create's ``options`` want restored, and where.

    They are decoded without complaint before: ``with_options`` has had them.
    """
    kinds: dict[str, type[RuncOptions | LinuxCreateOptions]] = {
        _RUNC: RuncOptions,
        _LINUX: LinuxCreateOptions,
    }
    if (kind := kinds.get(options.type_url.rpartition("/")[2])) is None:
        return Restored()
    wire = kind.FromString(options.value)
    return Restored(wire.criu_image_path, wire.criu_work_path)


def checkpoint_options(options: AnyMessage) -> RuncCheckpointOptions | LinuxCheckpointOptions:
    """Checkpoint's ``options``; the second kind has no ``parent_path``.

    Raises:
        InvalidArgument: they cannot be decoded.
    """
    old = options.type_url.rpartition("/")[2] == _LINUX_CHECKPOINT
    try:
        return (LinuxCheckpointOptions if old else RuncCheckpointOptions).FromString(options.value)
    except DecodeError as error:
        raise InvalidArgument(f"options of Checkpoint cannot be decoded: {error}") from error


def _with_linux_options(config: Config, options: LinuxCreateOptions | RuncOptions) -> Config:
    return replace(
        config,
        no_pivot_root=options.no_pivot_root or config.no_pivot_root,
        no_new_keyring=options.no_new_keyring or config.no_new_keyring,
        io_uid=options.io_uid or config.io_uid,
        io_gid=options.io_gid or config.io_gid,
        shim_cgroup=options.shim_cgroup or config.shim_cgroup,
    )


def _with_runc_options(config: Config, options: RuncOptions) -> Config:
    return replace(
        _with_linux_options(config, options),
        runtime=options.binary_name or config.runtime,
        runtime_root=options.root or config.runtime_root,
        systemd_cgroup=options.systemd_cgroup or config.systemd_cgroup,
    )


def _with_runtime_options(config: Config, options: RuntimeOptions) -> Config:
    if not options.config_path:
        origin = "the TOML of runtimeoptions.v1.Options"
        try:
            return _with_toml(config, options.config_body.decode("utf-8"), origin)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{origin} is not UTF-8") from error
    try:
        body = Path(options.config_path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8, or a NUL byte in the path
        raise InvalidArgument(f"ConfigPath {options.config_path!r} cannot be read: {error}") from error
    return _with_toml(config, body, options.config_path)


def _with_toml(config: Config, body: str, origin: str) -> Config:
    # containerd's CRI gives a runtime whose entry is called runc the options of its own shim: in words like these if the
    # type of the runtime is another.
    table = parse(body, origin)
    options = RuncOptions()
    for key in [key for key, value in table.items() if key in _RUNC_WORDS and not ("Criu" in key and value)]:
        value = table.pop(key)
        try:
            setattr(options, _RUNC_WORDS[key], value)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"{origin}: {key} = {value!r} is not valid") from error
    return _with_runc_options(overlay_table(config, table, origin), options)
