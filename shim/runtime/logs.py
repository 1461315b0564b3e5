"""What a runtime says went wrong: its JSON log, else its standard error.

All runtimes write objects with ``level``, ``msg`` and ``time`` when asked for ``--log-format json``, in three layouts:
runc one a line, runsc one after the other without a newline, crun (from 1.2x) pretty-printed over several lines. So the
log is read as a sequence of JSON values, not as lines. crun writes errors of its argument parsing, and all errors of
``ps``, to standard error only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["Record", "last_words", "one_line", "records"]

_DECODER = json.JSONDecoder()

# Lines after which a program explains its stack, or all its options, instead of its error.
_HEADLINES = (
    "panic:",
    "fatal error:",
    "Usage:",
    "Incorrect Usage",
    "flag provided but not defined",
    "unknown command",
)


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a log."""

    level: str
    message: str


def one_line(text: str) -> str:
    """``text`` with every run of white space as one blank."""
    return " ".join(text.split())


def records(log: bytes) -> list[Record]:
    """The objects in ``log``; whatever is no such object is passed over."""
    text = log.decode("utf-8", "replace")
    found = []
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(value.get("msg"), str):
                found.append(Record(str(value.get("level", "")), one_line(value["msg"])))
        at = text.find("{", end)
    return found


def last_words(stderr: bytes) -> str:
    """The line of ``stderr`` that most likely names the error: a headline if there is one, else the last line."""
    lines = [line for raw in stderr.decode("utf-8", "replace").splitlines() if (line := one_line(raw))]
    for line in lines:
        if line.startswith(_HEADLINES):
            return line
    return lines[-1] if lines else ""
