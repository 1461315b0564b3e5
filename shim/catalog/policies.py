"""Policies, as Vault writes them: HCL or JSON, from which come rules.

    path "sys/plugins/runtimes/catalog/*" {
      capabilities = ["create", "read", "update", "delete", "list", "sudo"]
    }

What narrows a rule and is not known here (allowed_parameters, control groups, templates) is refused: left out, the rule
would allow more than it says. So is a name that is there twice in one block: one of the two would be lost, and it may be
the ``deny``.

Source: Vault's policies documentation; vault/policy.go.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shim.catalog.acl import CAPABILITIES, DENY, Rule
from shim.errors import InvalidArgument, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["DEFAULT", "parse_policy"]

DEFAULT = """\
# What every token may do that is not made without it.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
"""
"""The policy ``default``, until it is written."""

_MAX_BYTES = 256 << 10
# Words of Vault before 0.5, which it still takes.
_OLD = {
    "deny": (DENY,),
    "read": ("read", "list"),
    "write": ("create", "read", "update", "delete", "list"),
    "sudo": ("create", "read", "update", "delete", "list", "sudo"),
}


def parse_policy(text: str) -> tuple[Rule, ...]:
    """The rules of a policy, in their order.

    Raises:
        InvalidArgument: it is no policy, or one that asks for what is not known here; says where.
        Unimplemented: it is HCL, and what reads that is not installed.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument("failed to parse policy: it has half a character in it") from error
    if size > _MAX_BYTES:
        raise InvalidArgument(f"a policy may have {_MAX_BYTES >> 10} KiB")
    blocks = _json_blocks(text) if text.lstrip().startswith("{") else _hcl_blocks(text)
    return tuple(_rule(path, body) for path, body in blocks)


def _json_blocks(text: str) -> Iterator[tuple[str, Any]]:
    try:
        top = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"failed to parse policy: {error}") from error
    return _blocks(top)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_twice(name for name, _ in members)
    return dict(members)


def _hcl_blocks(text: str) -> Iterator[tuple[str, Any]]:
    try:
        import hcl2  # noqa: PLC0415 - part of an extra, and slow: it makes its grammar
        from hcl2.rules.base import AttributeRule, BodyRule  # noqa: PLC0415
        from hcl2.walk import find_all  # noqa: PLC0415
    except ImportError as error:
        raise Unimplemented(
            "a policy in HCL needs python-hcl2: pip install 'ocishim[daemon]'; or write it in JSON"
        ) from error
    options = hcl2.SerializationOptions(
        with_comments=False, explicit_blocks=False, preserve_heredocs=False, strip_string_quotes=True
    )
    try:
        tree = hcl2.parses(text)
        top = hcl2.serialize(tree, serialization_options=options)
        bodies = [
            [child.identifier.serialize() for child in body.children if isinstance(child, AttributeRule)]
            for body in find_all(tree, BodyRule)
        ]
    except (
        Exception
    ) as error:  # the parser has no error of its own: whatever it meets in a text is that text's fault
        raise InvalidArgument(f"failed to parse policy: {_first_line(error)}") from error
    for names in bodies:
        _refuse_twice(names)
    if isinstance(top.get("path"), dict):
        raise InvalidArgument('failed to parse policy: write path "…" { … }, without "="')
    return _blocks(top)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _refuse_twice(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidArgument(f"failed to parse policy: {name!r} is there twice")
        seen.add(name)


def _blocks(top: Any) -> Iterator[tuple[str, Any]]:
    """Path and body of every rule: an object of them, or a list of such."""
    if not isinstance(top, dict):
        raise InvalidArgument("failed to parse policy: does not contain a root object")
    if unknown := sorted(top.keys() - {"path", "name"}):
        raise InvalidArgument(f"failed to parse policy: invalid key {unknown[0]!r}; known: path, name")
    paths = top.get("path") or {}
    for group in paths if isinstance(paths, list) else [paths]:
        if not isinstance(group, dict):
            raise InvalidArgument(f"failed to parse policy: path must have a body, and is {group!r:.80}")
        yield from group.items()


def _rule(path: str, body: Any) -> Rule:
    where = f"failed to parse policy: path {path!r:.300}"
    if not isinstance(body, dict):
        raise InvalidArgument(f"{where} must have a body")
    unknown = sorted(map(str, body.keys() - {"capabilities", "policy", "comment"}))
    if unknown:
        raise InvalidArgument(
            f"{where}: {unknown[0]!r} is not known here, and a rule without it would say more"
        )
    if "+*" in path:
        raise InvalidArgument(f"{where}: invalid use of wildcards ('+*' is forbidden)")
    if "{{" in path:
        raise InvalidArgument(f"{where}: templates are not known here")
    names = [*_capabilities(where, body.get("capabilities")), *_old_words(where, body.get("policy"))]
    return Rule(path.removeprefix("/"), frozenset({DENY}) if DENY in names else frozenset(names))


def _capabilities(where: str, value: Any) -> list[str]:
    names = [] if value is None else value
    if not isinstance(names, list):
        raise InvalidArgument(f"{where}: capabilities must be a list")
    for name in names:
        if name not in CAPABILITIES:
            raise InvalidArgument(
                f"{where}: invalid capability {name!r:.80}; known: {', '.join(CAPABILITIES)}"
            )
    return names


def _old_words(where: str, word: Any) -> tuple[str, ...]:
    if word in {None, ""} if isinstance(word, str | None) else False:
        return ()
    if not isinstance(word, str) or word not in _OLD:
        raise InvalidArgument(f"{where}: invalid policy {word!r:.80}")
    return _OLD[word]
