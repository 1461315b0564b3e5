"""What is asked for, once HTTP is taken off: an operation on a path, with parameters and a token.

Source: Vault's logical.Request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.catalog.tokens import Token

__all__ = ["Call", "Operation"]


class Operation(Enum):
    """The value is the capability that a token needs for it."""

    READ = "read"
    LIST = "list"
    UPDATE = "update"
    DELETE = "delete"
    PATCH = "patch"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``path`` is what follows ``/v1/``; ``parameters`` come from the query or the body."""

    operation: Operation
    path: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    secret: str = field(default="", repr=False)
    """Of a token, as the client sent it."""
    ignored: tuple[str, ...] = ()
    """Names in the query of a request whose parameters are in its body: somebody may think that they count."""
    caller: Token | None = None
    """What that is, once it was looked up."""
