"""What a client sent in vain, in Vault's words.

Source: Vault's sdk/framework/backend.go HandleRequest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["warnings_about"]

# What Vault's own Go client sends as the type of a runtime: the number of an enumeration.
_SYNONYMS: Mapping[str, tuple[object, ...]] = {"container": (1,)}


def warnings_about(
    unknown: Iterable[str], given: Mapping[str, Any], captured: Mapping[str, str]
) -> tuple[str, ...]:
    """Warnings about names that mean nothing, and about values that the path overrules."""
    said = []
    if ignored := sorted(set(unknown)):
        said.append(f"Endpoint ignored these unrecognized parameters: [{' '.join(ignored)}]")
    if replaced := sorted(key for key, value in captured.items() if _differs(given.get(key), value)):
        said.append(
            "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: "
            f"[{' '.join(replaced)}]"
        )
    return tuple(said)


def _differs(given: object, captured: str) -> bool:
    return given is not None and given != captured and given not in _SYNONYMS.get(captured, ())
