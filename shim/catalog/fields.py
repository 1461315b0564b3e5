"""What a client sent, taken out member by member: each of the right type, or refused in Vault's words.

Vault turns numbers into texts, truths into numbers and so on where it can. That hides mistakes, and nobody's client needs
it; what clients do send is taken: integers as numbers or as digits, truths as such or as words, a list of one as a text.
``null`` counts as not given.

Source: Vault's framework.FieldData.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fields"]

# No zero in front of others: some would take that for octal.
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,29})", re.ASCII)
_INT64 = range(-(2**63), 2**63)
# Go's strconv.ParseBool.
_WORDS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
# What no program can be given, and what no answer can be encoded with; in one line also what is no character to see.
_IMPOSSIBLE = re.compile(r"[\0\ud800-\udfff]")
_INVISIBLE = re.compile(r"[\0-\x1f\x7f\u2028\u2029\ud800-\udfff]")
_SHOWN = 60
# PATH_MAX: a name of a program, a path of a cgroup, a name of an image. A list of all of them is one answer.
_MAX_TEXT = 4096


class Fields:
    """The members of a JSON object. Whoever has asked for all that there may be learns the others from ``unknown``."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = {name: value for name, value in given.items() if value is not None}
        self._unknown = dict.fromkeys(given)

    def ignore(self, *names: str) -> None:
        """These may be there, whatever they are."""
        for name in names:
            self._unknown.pop(name, None)

    def unknown(self) -> list[str]:
        """The names that nobody has asked for, sorted."""
        return sorted(self._unknown)

    def text(self, *names: str) -> str:
        """One line of text; empty where it is not given.

        Raises:
            InvalidArgument: it is no text, too long, has control characters, or is given twice, differently.
        """
        name, value = self._take(names, "")
        if not isinstance(value, str):
            raise _wrong(name, value, "a text is needed")
        if _INVISIBLE.search(value):
            raise _wrong(name, value, "it has control characters")
        if len(value.encode()) > _MAX_TEXT:
            raise _wrong(name, value, f"it has more than {_MAX_TEXT} bytes")
        return value

    def integer(self, *names: str) -> int:
        """An integer of 64 bits; 0 where it is not given.

        Raises:
            InvalidArgument: it is none, or is given twice, differently.
        """
        name, value = self._take(names, 0)
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(name, value, "an integer is needed")
        if value not in _INT64:
            raise _wrong(name, value, "it does not fit into 64 bits")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false where it is not given.

        Raises:
            InvalidArgument: it is neither.
        """
        _, value = self._take((name,), default=False)
        if isinstance(value, str):
            value = _WORDS.get(value, value)
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false is needed")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Texts, which may have several lines; none where it is not given. They are never part of an error: they may be secret.

        Raises:
            InvalidArgument: it is neither a text nor a list of texts.
        """
        _, value = self._take((name,), ())
        items = [value] if isinstance(value, str) and value else value or []
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise InvalidArgument(f'error converting input for field "{name}": a list of texts is needed')
        if any(_IMPOSSIBLE.search(item) for item in items):
            raise InvalidArgument(f'error converting input for field "{name}": no text may have NUL in it')
        return tuple(items)

    def _take(self, names: tuple[str, ...], default: Any) -> tuple[str, Any]:
        """The first of ``names`` that is given, and its value."""
        self.ignore(*names)
        found = [name for name in names if name in self._given]
        for name in found[1:]:
            if self._given[name] != self._given[found[0]]:
                raise InvalidArgument(f'fields "{found[0]}" and "{name}" are two names of one, and differ')
        return (found[0], self._given[found[0]]) if found else (names[0], default)


def _wrong(name: str, value: object, why: str) -> InvalidArgument:
    shown = json.dumps(value, default=repr)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}…"
    return InvalidArgument(f'error converting input {shown} for field "{name}": {why}')
