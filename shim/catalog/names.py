"""Names in the catalog, and the versions of plugins.

Source: Vault's framework.GenericNameRegex; hashicorp/go-version; semver.org.
"""

from __future__ import annotations

import re

from shim.errors import InvalidArgument

__all__ = ["canonical_version", "is_name", "validate_name", "version_order"]

_NAME = re.compile(r"\w(?:[\w.-]{0,254}\w)?", re.ASCII)
_VERSION = re.compile(
    r"v?(?P<major>\d{1,18})(?:\.(?P<minor>\d{1,18}))?(?:\.(?P<patch>\d{1,18}))?"
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+(?P<meta>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)


def is_name(text: str) -> bool:
    """Whether it can be the name of a runtime or a plugin."""
    return _NAME.fullmatch(text) is not None


def validate_name(text: str, what: str) -> str:
    """``text``, which can be the name of ``what``.

    Raises:
        InvalidArgument: it cannot; names it.
    """
    if not text:
        raise InvalidArgument(f"missing {what} name")
    if not is_name(text):
        raise InvalidArgument(
            f"{what} name {text[:256]!r}: use letters, digits, '_', '-' and '.', at most 256, a letter, digit or '_' at both ends"
        )
    return text


def canonical_version(text: str) -> str:
    """``vX.Y.Z``, with what follows; empty stays empty: no version.

    Raises:
        InvalidArgument: it is no semantic version, or one that is reserved.
    """
    if not text:
        return ""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InvalidArgument(f'version "{text[:256]}" is not a valid semantic version')
    numbers = ".".join(str(int(match[part] or 0)) for part in ("major", "minor", "patch"))
    version = f"v{numbers}{'-' + match['pre'] if match['pre'] else ''}{'+' + match['meta'] if match['meta'] else ''}"
    if "builtin" in (match["meta"] or "").split("."):
        raise InvalidArgument(
            f"version \"{version}\" is not allowed because 'builtin' is a reserved metadata identifier"
        )
    return version


def version_order(version: str) -> tuple[object, ...]:
    """A key that sorts canonical versions, the older first, and none before all."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return ()
    numbers = [int(match[part]) for part in ("major", "minor", "patch")]
    # A release comes after what precedes it, and numbers come before words; metadata does not count, but must not tie.
    words = [
        (0, int(word), "") if word.isdigit() else (1, 0, word) for word in (match["pre"] or "").split(".")
    ]
    return (*numbers, not match["pre"], tuple(words), version)
