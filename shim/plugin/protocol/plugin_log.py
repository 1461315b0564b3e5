"""What a plugin writes to its standard error, as records of our log at the level that it meant.

go-plugin's plugins write hclog's JSON, a line a record: ``@level``, ``@message``, ``@timestamp``, ``@module``, and values of
their own under other keys. Others are told by the prefixes that Go programs use, and a panic by how the Go runtime begins
one. What is none of these is for debugging. Lines in, records out.

Source: hashicorp/go-plugin, Client.logStderr; hashicorp/go-hclog, JSONFormat.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from shim.plugin.protocol.lines import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shim.plugin.protocol.lines import Line

__all__ = ["TRACE", "PluginLog"]

# hclog has a level below DEBUG, and so does logrus.
TRACE = 5
logging.addLevelName(TRACE, "TRACE")

_LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_PREFIXES = {f"[{name.upper()}]": level for name, level in _LEVELS.items()}
_PANICS = ("panic: ", "fatal error: ")

# What an error of the plugin's shows of its log.
_TAIL_LINES = 8
_TAIL_WIDTH = 300


class PluginLog:
    """Logs what it is fed to ``logger``, and remembers the end of it."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lines = LineSplitter()
        self._in_panic = False
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def feed(self, data: bytes) -> None:
        """What ends in ``data`` is logged."""
        self._log(self._lines.feed(data))

    def end(self) -> None:
        """The last line is logged, too, if it has no newline."""
        self._log(self._lines.end())

    def tail(self) -> list[str]:
        """The last messages."""
        return list(self._tail)

    def _log(self, lines: Iterable[Line]) -> None:
        for data, whole in lines:
            text = data.decode(errors="replace")
            level, message = self._record(text) if whole else (logging.DEBUG, text)
            if message:
                self._tail.append(message[:_TAIL_WIDTH])
                self._logger.log(level, "%s", message)

    def _record(self, text: str) -> tuple[int, str]:
        if (record := _hclog(text)) is not None:
            return record
        for prefix, level in _PREFIXES.items():
            if text.startswith(prefix):
                return level, text.removeprefix(prefix).lstrip()
        # Until the plugin writes something with a level again, all that follows is the panic's stack.
        self._in_panic = self._in_panic or text.startswith(_PANICS)
        return logging.ERROR if self._in_panic else logging.DEBUG, text


def _hclog(text: str) -> tuple[int, str] | None:
    """The level and the message of a record of hclog's; None if it is none."""
    if not text.startswith("{"):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record.get("@message"), str) or record.get("@level") not in _LEVELS:
        return None
    level, message = record.pop("@level"), record.pop("@message")
    record.pop("@timestamp", None)  # ours is the time at which it was read, a moment later
    return _LEVELS[level], " ".join(
        [message, *(f"{key.removeprefix('@')}={_value(value)}" for key, value in record.items())]
    )


def _value(value: Any) -> str:
    """A value as logfmt has it: bare if it is one word."""
    if isinstance(value, str) and value and all(c.isprintable() and c not in ' "=' for c in value):
        return value
    return json.dumps(value, ensure_ascii=False)
