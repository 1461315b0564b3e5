"""Names of containers, execs and namespaces.

An id becomes the name of a directory (ours and the runtime's), of a cgroup and an argument of the runtime's command
line; what could mean something else in any of these places is refused here, once. runc takes the same characters.

Source: runc's validateID; containerd's identifiers package (for namespaces).
"""

from __future__ import annotations

import re

from shim.errors import InvalidArgument

__all__ = ["validate_id", "validate_namespace"]

_ID = re.compile(r"[A-Za-z0-9_+.-]+")
_NAMESPACE = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")

# NAME_MAX: every runtime makes a directory of this name, so a longer id cannot work anywhere.
_MAX_ID = 255
_MAX_NAMESPACE = 76


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


def validate_id(name: str, what: str = "container id") -> str:
    """``name``, which is fit to be an id.

    Raises:
        InvalidArgument: it is empty, too long, ``.``, ``..``, begins with ``-``, or holds another character than
            ASCII letters, digits and ``_+.-``.
    """
    if not name:
        raise InvalidArgument(f"{what} must not be empty")
    if len(name) > _MAX_ID:
        raise InvalidArgument(f"{what} {_shown(name)} has {len(name)} characters, {_MAX_ID} is the most")
    if not _ID.fullmatch(name):
        raise InvalidArgument(f"{what} {_shown(name)} may only have letters, digits and the characters _+.-")
    if name in {".", ".."}:
        raise InvalidArgument(f"{what} {name!r} means a directory")
    if name.startswith("-"):
        raise InvalidArgument(
            f"{what} {_shown(name)} must not begin with '-': runtimes take it for an option"
        )
    return name


def validate_namespace(name: str) -> str:
    """``name``, which is fit to be a containerd namespace.

    Raises:
        InvalidArgument: it is empty, too long, or not words of ASCII letters and digits joined by ``.``, ``_``, ``-``.
    """
    if len(name) > _MAX_NAMESPACE or not _NAMESPACE.fullmatch(name):
        raise InvalidArgument(
            f"namespace {_shown(name)} must be at most {_MAX_NAMESPACE} letters and digits, joined by single . _ or -"
        )
    return name
