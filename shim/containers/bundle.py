"""The user's bundle, which stays as it is, and the one derived from it, in the container's directory, for the shim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.errors import NotFound, from_os_error
from shim.oci import spec as oci_spec

if TYPE_CHECKING:
    from pathlib import Path

    from shim.oci.spec import Spec

__all__ = ["derive", "read"]


def read(bundle: Path) -> Spec:
    """The checked config.json of ``bundle``.

    Raises:
        NotFound: it does not exist, or its root filesystem does not; says what to do.
        InvalidArgument: it is not valid; names the place.
        ShimError: it cannot be read.
    """
    file = bundle / "config.json"
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        what = f"{file} does not exist" if bundle.is_dir() else f"bundle {bundle} does not exist"
        raise NotFound(f"{what}; to write one: ocishim spec --bundle {bundle}") from None
    except OSError as error:
        raise from_os_error(error, f"{file} cannot be read") from error
    spec = oci_spec.parse(data, str(file))
    root = bundle / spec.root_path
    if not root.is_dir():
        raise NotFound(
            f"root.path {spec.root_path} of {file} is no directory; put the root filesystem into {root}"
        )
    return spec


def derive(spec: Spec, bundle: Path, directory: Path, *, terminal: bool) -> None:
    """``directory`` has a config.json that means there what ``spec`` means in ``bundle``, with or without a terminal.

    Raises:
        ShimError: it cannot be written.
    """
    raw = oci_spec.with_absolute_paths(spec.raw, str(bundle))
    raw = oci_spec.with_terminal(raw, terminal=terminal)
    file = directory / "config.json"
    try:
        file.write_bytes(oci_spec.to_json(raw))
    except OSError as error:
        raise from_os_error(error, f"{file} cannot be written") from error
