"""The command line that containerd gives a shim, as Go's flag package reads it.

One dash or two, ``-k v`` or ``-k=v``, flags before the action word. An unknown flag is skipped with its value: a newer
containerd may send more, and a shim that refuses to start for that is of no use to anybody.

Source: containerd pkg/shim/shim.go, parseFlags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ACTIONS", "Invocation", "parse"]

ACTIONS = ("start", "delete")
_SWITCHES = {"debug": "debug", "v": "version", "version": "version", "info": "info"}
_VALUES = ("namespace", "address", "publish-binary", "id", "bundle")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


@dataclass(frozen=True, slots=True)
class Invocation:
    """What containerd asks for. ``action`` is empty where there is none."""

    action: str = ""
    namespace: str = ""
    id: str = ""
    address: str = ""
    publish_binary: str = ""
    bundle: str = ""
    debug: bool = False
    version: bool = False
    info: bool = False


def parse(argv: Sequence[str]) -> Invocation:
    """The invocation in ``argv``, which does not contain the program."""
    switches: dict[str, bool] = {}
    values: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            values["action"] = word
            break
        name, separator, value = word.lstrip("-").partition("=")
        if name in _SWITCHES:
            switches[_SWITCHES[name]] = value not in _FALSE
            continue
        # An unknown flag may be a switch: what follows is its value unless it is the action or another flag.
        if (
            not separator
            and words
            and (name in _VALUES or not (words[0].startswith("-") or words[0] in ACTIONS))
        ):
            value = words.pop(0)
        if name in _VALUES:
            values[name.replace("-", "_")] = value
    return Invocation(**values, **switches)  # type: ignore[arg-type]  # the two tables have the fields' types
