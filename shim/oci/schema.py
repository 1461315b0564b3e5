"""Checks of JSON documents, built from small functions; a mismatch names the document and the place.

A check takes a value and its JSON path and returns when the value is as it should be. ``null`` counts as absent, as it
does for the runtimes (Go's encoding/json). Keys that no check names are left alone.

    config.json of /b: process.args must be a non-empty list of strings, got []
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

from shim.errors import InvalidArgument

__all__ = [
    "BOOLEAN",
    "INT64",
    "TEXT",
    "UINT16",
    "UINT32",
    "UINT64",
    "Check",
    "Json",
    "array",
    "check_object",
    "integer",
    "load_object",
    "mapping",
    "record",
    "string",
    "to_json",
]

# An object of a document. What its members are is known to the checks, not to the type checker.
Json: TypeAlias = dict[str, Any]

Check: TypeAlias = Callable[[object, str], None]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN = 60


class _MismatchError(Exception):
    """The text of an error without the document's name."""


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _reject(path: str, expected: str, value: object) -> NoReturn:
    what = path or "the document"
    if value is None:
        raise _MismatchError(f"{what} is missing: it must be {expected}")
    raise _MismatchError(f"{what} must be {expected}, got {_shown(value)}")


def _member(path: str, key: str) -> str:
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{_shown(key)}]"
    return f"{path}.{key}" if path else key


def string(expected: str = "a string", accepts: Callable[[str], object] = lambda _: True) -> Check:
    """A string that ``accepts`` finds true, and that a process can get: no NUL, and Unicode throughout.

    JSON has no way to say a byte that is not UTF-8; such a byte comes from a command line as a lone surrogate, and
    runtimes would silently replace it.
    """

    def check(value: object, path: str) -> None:
        if not isinstance(value, str) or not accepts(value):
            _reject(path, expected, value)
        if "\0" in value:
            _reject(path, f"{expected} without a NUL character", value)
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            _reject(path, f"{expected} of valid Unicode", value)

    return check


def integer(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``; ``1.0`` and ``true`` are none."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            _reject(path, f"a whole number from {low} to {high}", value)

    return check


def _boolean(value: object, path: str) -> None:
    if not isinstance(value, bool):
        _reject(path, "true or false", value)


TEXT = string()
BOOLEAN: Check = _boolean
UINT16 = integer(0, 2**16 - 1)
UINT32 = integer(0, 2**32 - 1)
UINT64 = integer(0, 2**64 - 1)
INT64 = integer(-(2**63), 2**63 - 1)


def array(item: Check, expected: str = "a list", *, non_empty: bool = False) -> Check:
    """A list whose members all pass ``item``."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, list) or (non_empty and not value):
            _reject(path, expected, value)
        for index, member in enumerate(value):
            item(member, f"{path}[{index}]")

    return check


def mapping(item: Check, expected: str) -> Check:
    """An object with any keys, whose members all pass ``item``."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, dict):
            _reject(path, expected, value)
        for key, member in value.items():
            item(member, _member(path, key))

    return check


def record(required: Mapping[str, Check] | None = None, **optional: Check) -> Check:
    """An object whose members, where present, pass their checks, and that has all of ``required``."""
    needed = required or {}

    def check(value: object, path: str) -> None:
        if not isinstance(value, dict):
            _reject(path, "an object", value)
        for key, item in needed.items():
            item(value.get(key), _member(path, key))
        for key, item in optional.items():
            if value.get(key) is not None:
                item(value[key], _member(path, key))

    return check


def check_object(value: object, check: Check, origin: str) -> Json:
    """``value``, which is an object that passes ``check``.

    Raises:
        InvalidArgument: it does not; one line that begins with ``origin`` and names the place.
    """
    try:
        check(value, "")
    except _MismatchError as mismatch:
        raise InvalidArgument(f"{origin}: {mismatch}") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{origin}: the document must be an object, got {_shown(value)}")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def load_object(data: bytes, check: Check, origin: str) -> Json:
    """The JSON object in ``data``, which passes ``check``.

    Raises:
        InvalidArgument: not UTF-8, not JSON (with line and column), or a mismatch; names ``origin``.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{origin} is not UTF-8 text: byte {error.start} is wrong") from None
    except json.JSONDecodeError as error:
        raise InvalidArgument(
            f"{origin} is not valid JSON: line {error.lineno} column {error.colno}: {error.msg}"
        ) from None
    except ValueError as error:
        raise InvalidArgument(f"{origin} is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidArgument(f"{origin} is not usable: it is nested too deeply") from None
    return check_object(value, check, origin)


def to_json(document: Mapping[str, Any]) -> bytes:
    """``document`` as one line of JSON, ASCII, the members in their order."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
