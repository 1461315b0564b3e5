"""Paths and what can be done there, as data; and finding one.

Source: Vault's sdk/framework/path.go and backend.go HandleRequest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from shim.catalog.api.answer import Answer
    from shim.catalog.api.call import Call, Operation

    Captures = Mapping[str, str]
    Handler = Callable[[Call, Captures], Answer]

__all__ = ["NAME", "Endpoint", "find"]

# framework.GenericNameRegex, with an end: a name is part of what is written to disk and to logs.
NAME = r"(?P<name>\w(?:[\w.-]{0,254}\w)?)"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``pattern`` matches whole paths; ``name`` is its name in metrics. What is ``public`` needs no token."""

    name: str
    pattern: re.Pattern[str]
    operations: Mapping[Operation, Handler]
    public: bool = False

    @classmethod
    def of(
        cls, name: str, pattern: str, operations: Mapping[Operation, Handler], *, public: bool = False
    ) -> Endpoint:
        """An endpoint; ``pattern`` is ASCII, as Go's are."""
        return cls(name, re.compile(pattern, re.ASCII), operations, public)


def find(endpoints: Iterable[Endpoint], path: str) -> tuple[Endpoint, Captures] | None:
    """The first whose pattern matches, and what that has captured."""
    for endpoint in endpoints:
        if match := endpoint.pattern.fullmatch(path):
            return endpoint, {key: value for key, value in match.groupdict().items() if value is not None}
    return None
