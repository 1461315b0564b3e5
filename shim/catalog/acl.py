"""What the policies of a token let it do with a path: one rule applies, that which says most about the path.

A path that a rule names exactly is decided by that rule. Else all rules with a ``*`` at their end or with ``+`` as a part
are asked whether they match, and the one wins whose first wildcard comes last; then one without ``*``, with fewer ``+``, the
longer, the later in the alphabet. What several policies say about the same path adds up, but ``deny`` is alone and stays.
Nothing matched means nothing is allowed.

Source: Vault's policies documentation; vault/acl.go, CheckAllowedFromNonExactPaths; http/logical.go, buildLogicalPath.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CAPABILITIES", "DENY", "ROOT", "SUDO", "Acl", "Rule", "needs_sudo"]

DENY, SUDO, ROOT = "deny", "sudo", "root"
CAPABILITIES = ("create", "read", "update", "delete", "list", "patch", SUDO, DENY)
_NOTHING = frozenset({DENY})

# Paths where an operation needs sudo, too.
_PROTECTED = ("sys/plugins/runtimes/catalog", "sys/plugins/catalog")


def needs_sudo(path: str) -> bool:
    """Whether Vault asks for ``sudo`` besides the capability of an operation on ``path``."""
    return any(path == place or path.startswith(place + "/") for place in _PROTECTED)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a policy says about paths. ``path`` has no slash at its beginning."""

    path: str
    capabilities: frozenset[str]

    @property
    def wild(self) -> bool:
        """Whether ``+`` stands for a part of it."""
        return "+" in self.path.split("/")

    @property
    def prefix(self) -> bool:
        """Whether it is about all that begins so."""
        return self.path.endswith("*")

    @property
    def exact(self) -> bool:
        """Whether it is about one path."""
        return not (self.wild or self.prefix)

    def matches(self, path: str) -> bool:
        """Whether ``path`` is one of those that it is about."""
        if not self.prefix:
            parts = path.split("/")
            ours = self.path.split("/")
            return len(ours) == len(parts) and all(a in {"+", b} for a, b in zip(ours, parts, strict=True))
        *ours, last = self.path.removesuffix("*").split("/")
        parts = path.split("/", len(ours))
        return (
            len(parts) > len(ours)
            and all(a == b or (a == "+" and self.wild) for a, b in zip(ours, parts, strict=False))
            and parts[-1].startswith(last)
        )

    def rank(self) -> tuple[int, bool, int, int, str]:
        """The greater, the more it says about what it matches. Exact ones have none."""
        stem = self.path.removesuffix("*")
        pluses = self.path.split("/").count("+")
        first = self.path.index("+") if pluses else len(stem)
        return first, not self.prefix, -pluses, len(stem), stem


class Acl:
    """The rules of all policies of a token."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        merged: dict[str, frozenset[str]] = {}
        for rule in rules:
            both = merged.get(rule.path, frozenset()) | rule.capabilities
            merged[rule.path] = _NOTHING if DENY in both else both
        found = [Rule(path, capabilities) for path, capabilities in merged.items()]
        self._exact = {rule.path: rule.capabilities for rule in found if rule.exact}
        self._others = sorted((rule for rule in found if not rule.exact), key=Rule.rank, reverse=True)

    def capabilities(self, path: str, *, listing: bool = False) -> frozenset[str]:
        """What may be done with ``path``; ``deny`` alone where that is nothing.

        ``listing``: the path of a list has a slash at its end, given or not; but an exact rule may be without.
        """
        path = path.lstrip("/")
        if listing and not path.endswith("/"):
            path += "/"
        exact = self._exact.get(path)
        if exact is None and listing:
            exact = self._exact.get(path.removesuffix("/"))
        if exact is not None:
            return exact or _NOTHING
        return next((rule.capabilities for rule in self._others if rule.matches(path)), _NOTHING) or _NOTHING
