"""Images of a running containerd, through its own ``ctr``.

Which containerd says ``CONTAINERD_ADDRESS``, which ctr reads.

Source: ctr(8), ``images export``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.errors import InvalidArgument
from shim.image import tools
from shim.image.archive import extract
from shim.oci.identifiers import validate_namespace

if TYPE_CHECKING:
    from pathlib import Path

    from shim.image.limits import Limits, Progress

__all__ = ["PREFIX", "export", "parse_source"]

PREFIX = "containerd://"
_HELP = 1 << 16


def parse_source(text: str) -> tuple[str, str]:
    """The namespace and the name that ``containerd://NAMESPACE/NAME`` means.

    Raises:
        InvalidArgument: it is none.
    """
    namespace, _, name = text.removeprefix(PREFIX).partition("/")
    if not name or name.startswith("-") or not name.isprintable():
        raise InvalidArgument(f"{text!r} names no image: write {PREFIX}NAMESPACE/NAME:TAG")
    return validate_namespace(namespace), name


def export(source: str, layout: Path, limits: Limits, progress: Progress) -> None:
    """``layout`` has the image that ``source`` names, as ctr exports it.

    Raises:
        InvalidArgument: ``source`` names none, or what ctr says is damaged.
        ResourceExhausted: it is too large.
        NotFound: ctr is not installed.
        FailedPrecondition: ctr has failed: there is no containerd, or it has no such image.
        OSError: ``layout`` cannot be written.
    """
    namespace, name = parse_source(source)
    ctr = tools.need("ctr", "containerd", source)
    layout.mkdir()
    command = [ctr, "--connect-timeout", "3s", "--namespace", namespace, "images", "export"]
    with tools.reading([*command, "--help"], layout, "ctr does not know 'images export'") as output:
        # That of containerd 2 has daemon and client in turns, and ends before it has written all; not so with this option.
        options = ["--local"] if b"--local" in output.read(_HELP) else []
    with tools.reading([*command, *options, "-", name], layout, f"ctr cannot export {source}") as output:
        extract(output, source, layout, limits, progress)
