"""Tokens: who may call, and what. The secret is told once, when it is made; what is kept is its hash.

A secret has 256 random bits, so a plain SHA-256 is enough: nothing can be guessed that a slow hash would protect. All
hashes are compared, each in a time that does not depend on where they differ.

Tokens and policies are in one record (see ``collection``). A policy is parsed when it is written, never when it is used.

Source: Vault's tokens and policies documentation.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shim.catalog.acl import ROOT, SUDO, Acl, Rule, needs_sudo
from shim.catalog.collection import Collection
from shim.catalog.names import validate_name
from shim.catalog.policies import DEFAULT, parse_policy
from shim.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Token", "Tokens"]

_PREFIX = "ocs."
_ALL = frozenset({ROOT})
_MAX_TTL_S = 100 * 366 * 86400.0
_MAX_DISPLAY_NAME = 256


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; its secret is not. Times are seconds since 1970."""

    accessor: str
    policies: tuple[str, ...]
    display_name: str
    created_at: float
    expires_at: float | None
    acl: Acl = field(repr=False, compare=False)

    @property
    def root(self) -> bool:
        """Whether it may do all."""
        return ROOT in self.policies

    def capabilities(self, path: str, *, listing: bool = False) -> frozenset[str]:
        """What it may do with ``path``: ``root`` alone for all, ``deny`` alone for nothing; see ``Acl``."""
        return _ALL if self.root else self.acl.capabilities(path, listing=listing)

    def allows(self, path: str, capability: str, *, listing: bool = False) -> bool:
        """Whether it may do that with ``path``, ``sudo`` included where it is needed."""
        given = self.capabilities(path, listing=listing)
        return given == _ALL or (capability in given and (SUDO in given or not needs_sudo(path.lstrip("/"))))

    def ttl_s(self, now: float) -> int:
        """Whole seconds that it still has; 0 where it never ends."""
        return 0 if self.expires_at is None else max(1, round(self.expires_at - now))

    def to_data(self) -> dict[str, Any]:
        """All of it that can be told."""
        return {
            "accessor": self.accessor,
            "policies": list(self.policies),
            "display_name": self.display_name,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
        }


# In a class that has a method of that name, "list" is not what it is elsewhere.
_Entries = list[dict[str, Any]]
_Names = list[str]
_List = list[Token]


class Tokens:
    """The tokens and policies below ``data_root``. Every call may block for as long as a disk does."""

    def __init__(self, storage: str, data_root: str, clock: Callable[[], float] = time.time) -> None:
        """Nothing is read or made yet.

        Raises:
            ShimError: there is no such storage here.
        """
        self._collection = Collection(storage, data_root, "tokens")
        self._clock = clock

    def create(
        self,
        policies: Iterable[str] = (),
        ttl_s: float | None = None,
        display_name: str = "",
        *,
        root: bool = False,
        default: bool = True,
    ) -> tuple[str, Token]:
        """A new token: its secret, which is not kept, and what is.

        ``default``: it also has the policy of that name. A policy may be written later.

        Raises:
            InvalidArgument: no such token can be.
        """
        names = _policies_of(policies, root=root, default=default)
        if ttl_s is not None and not 0 < ttl_s <= _MAX_TTL_S:
            raise InvalidArgument(f"a token cannot live for {ttl_s:g} s")
        if len(display_name) > _MAX_DISPLAY_NAME or not display_name.isprintable():
            raise InvalidArgument(
                f"display name {display_name[:40]!r}…: use at most 256 characters that can be seen"
            )
        secret = _PREFIX + secrets.token_urlsafe(32)
        now = self._clock()
        entry = {
            "accessor": secrets.token_hex(12),
            "digest": _digest(secret),
            "policies": names,
            "display_name": display_name,
            "created_at": now,
            "expires_at": None if ttl_s is None else now + ttl_s,
        }
        with self._collection.changed() as record:
            record["tokens"] = [*self._living(record), entry]
        return secret, _token(entry, record)

    def lookup(self, secret: str) -> Token:
        """The token of that secret.

        Raises:
            Unauthenticated: there is no secret.
            PermissionDenied: it is none, was revoked, or has expired; which of these is not told.
        """
        if not secret:
            raise Unauthenticated("missing client token")
        record = self._collection.load()
        entry = _find(self._living(record), _digest(secret))
        if entry is None:
            raise PermissionDenied("permission denied")
        return _token(entry, record)

    def token(self, accessor: str) -> Token:
        """The token of that accessor.

        Raises:
            NotFound: there is none.
        """
        for token in self.list():
            if token.accessor == accessor:
                return token
        raise NotFound("there is no such token")  # it may be a secret: not told

    def revoke(self, accessor_or_secret: str) -> None:
        """It is no token any more.

        Raises:
            NotFound: there is none of that accessor or secret.
        """
        digest = _digest(accessor_or_secret)
        with self._collection.changed() as record:
            before = self._living(record)
            gone = _find(before, digest)
            left = [e for e in before if e is not gone and e["accessor"] != accessor_or_secret]
            if len(left) == len(before):
                raise NotFound("there is no such token")  # see token
            record["tokens"] = left

    def list(self) -> _List:
        """All that have not expired, the oldest first."""
        record = self._collection.load()
        return sorted(
            (_token(entry, record) for entry in self._living(record)), key=lambda token: token.created_at
        )

    def put_policy(self, name: str, text: str) -> None:
        """The policy ``name`` is ``text``, from now on and for every token that has it.

        Raises:
            InvalidArgument: it is no policy, or no name of one.
            FailedPrecondition: it is ``root``.
            Unimplemented: see ``parse_policy``.
        """
        name = _policy_name(name)
        if name == ROOT:
            raise FailedPrecondition('cannot update "root" policy')
        rules = [{"path": r.path, "capabilities": sorted(r.capabilities)} for r in parse_policy(text)]
        with self._collection.changed() as record:
            record.setdefault("policies", {})[name] = {"text": text, "rules": rules}

    def policy(self, name: str) -> str:
        """The text of a policy; empty that of ``root``.

        Raises:
            NotFound: there is none.
        """
        name = _policy_name(name)
        found = self._collection.load().get("policies", {}).get(name)
        if found is not None:
            return str(found["text"])
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        raise NotFound(f"no policy named: {name}")

    def delete_policy(self, name: str) -> bool:
        """There is no policy of that name any more; whether there was.

        Raises:
            FailedPrecondition: it is a built-in one.
        """
        name = _policy_name(name)
        if name in _BUILT_IN:
            raise FailedPrecondition(f'cannot delete "{name}" policy')
        with self._collection.changed() as record:
            return record.get("policies", {}).pop(name, None) is not None

    def policies(self) -> _Names:
        """The names of all."""
        return sorted({*self._collection.load().get("policies", {}), *_BUILT_IN})

    def _living(self, record: Mapping[str, Any]) -> _Entries:
        now = self._clock()
        return [e for e in record.get("tokens", []) if e["expires_at"] is None or e["expires_at"] > now]


_BUILT_IN = {"default": DEFAULT, ROOT: ""}
_BUILT_IN_RULES = {
    "default": (
        Rule("auth/token/lookup-self", frozenset({"read"})),
        Rule("auth/token/revoke-self", frozenset({"update"})),
        Rule("sys/capabilities-self", frozenset({"update"})),
    )
}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _find(entries: _Entries, digest: str) -> dict[str, Any] | None:
    # All of them, so that the time does not tell which.
    return next((e for e in [e for e in entries if hmac.compare_digest(e["digest"], digest)]), None)


def _token(entry: Mapping[str, Any], record: Mapping[str, Any]) -> Token:
    rules = [rule for name in entry["policies"] for rule in _rules(name, record.get("policies", {}))]
    return Token(
        accessor=entry["accessor"],
        policies=tuple(entry["policies"]),
        display_name=entry["display_name"],
        created_at=entry["created_at"],
        expires_at=entry["expires_at"],
        acl=Acl(rules),
    )


def _rules(name: str, written: Mapping[str, Any]) -> Iterable[Rule]:
    """The rules of a policy; of one that is not there, or not yet, none."""
    if name in written:
        return [Rule(rule["path"], frozenset(rule["capabilities"])) for rule in written[name]["rules"]]
    return _BUILT_IN_RULES.get(name, ())


def _policy_name(name: str) -> str:
    # As in Vault, where "Admins" is "admins".
    return validate_name(name.lower(), "policy")


def _policies_of(asked: Iterable[str], *, root: bool, default: bool) -> _Names:
    names = sorted({_policy_name(name) for name in asked})
    if root or ROOT in names:
        if names not in ([], [ROOT]):
            raise InvalidArgument("a root token has the policy root and no others")
        return [ROOT]
    names = sorted({*names, "default"} if default else names)
    if not names:
        raise InvalidArgument("a token needs a policy")
    return names
