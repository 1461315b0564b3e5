"""What a client wrote into the stdin, stdout and stderr fields of Create and Exec.

Pure: parses and checks, opens nothing. The scheme of stdout says how both outputs leave; stdin is a FIFO, a terminal or a stream. A value
without a scheme is a path as it is; what follows a scheme is percent-encoded (RFC 3986), any bytes but NUL.

Source: containerd core/runtime/v2 and pkg/cio, docs of the binary logger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, parse_qsl, unquote

from shim.errors import InvalidArgument

__all__ = ["Kind", "Logger", "Streams"]

Kind = Literal["null", "path", "file", "binary", "stream"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KINDS: dict[str, Kind] = {
    "": "path",
    "fifo": "path",
    "file": "file",
    "binary": "binary",
    "binary-v2": "binary",
    "ttrpc+unix": "stream",
}


@dataclass(frozen=True, slots=True)
class Logger:
    """A ``binary://`` or ``binary-v2://`` logger: its program, and the arguments made of the query."""

    path: str
    args: tuple[str, ...]
    strict: bool
    """binary-v2: the logger must write a byte to its ready pipe; else closing that is enough."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams that one process wants. An empty string is a stream that nobody wants.

    Raises:
        InvalidArgument: a field that would be used cannot be.
    """

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False

    def __post_init__(self) -> None:
        # The properties check what they take apart; here, so that nothing is opened for streams that cannot be.
        _ = self.stdin_path, self.output_path("stdout"), self.output_path("stderr")
        if self.kind == "binary":
            self.logger()

    @property
    def kind(self) -> Kind:
        """How output leaves: nowhere, into FIFOs or existing files, one new file, a logger, or a stream that has an id."""
        scheme, _ = _split(self.stdout)
        if scheme not in _KINDS:
            raise InvalidArgument(
                f"unknown STDIO scheme {scheme!r} in {self.stdout!r}; known: {', '.join(filter(None, _KINDS))}"
            )
        return _KINDS[scheme] if self.stdout or self.stderr else "null"

    def output_path(self, name: Literal["stdout", "stderr"]) -> str:
        """Where one output goes, of kind "path" or "file", or its id, of kind "stream"; empty where it is not wanted.

        A terminal has no stderr.
        """
        if self.kind == "binary" or (name == "stderr" and self.terminal):
            return ""
        if self.kind == "stream":
            return _stream_id(name, self.stdout if name == "stdout" else self.stderr)
        if self.kind == "file":
            return _path("stdout", self.stdout, ("file",))
        return _path(name, self.stdout if name == "stdout" else self.stderr)

    @property
    def stdin_path(self) -> str:
        """The FIFO that stdin is read from; empty where there is none."""
        return "" if self.stdin_stream else _path("stdin", self.stdin)

    @property
    def stdin_stream(self) -> str:
        """The id of the stream that stdin is read from; empty where there is none."""
        return _stream_id("stdin", self.stdin) if _split(self.stdin)[0] == "ttrpc+unix" else ""

    def logger(self) -> Logger:
        """The logger of kind "binary".

        Each key of the query is an argument, and its first value the next one, also when that is empty.

        Raises:
            InvalidArgument: its path is not absolute, or there is a NUL byte in it or in an argument.
        """
        scheme, rest = _split(self.stdout)
        path, _, query = rest.partition("#")[0].partition("?")
        first: dict[str, str] = {}
        for key, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
            first.setdefault(key, value)
        args = tuple(word for pair in first.items() for word in pair)
        if any("\0" in word for word in args):
            raise InvalidArgument(f"an argument of the logger of {self.stdout!r} contains a NUL byte")
        return Logger(_decoded("stdout", self.stdout, path), args, strict=scheme == "binary-v2")


def _split(value: str) -> tuple[str, str]:
    """Scheme, in small letters and empty when there is none, and what follows."""
    match = _SCHEME.match(value)
    return (match[1].lower(), value[match.end() :]) if match else ("", value)


def _path(name: str, value: str, schemes: tuple[str, ...] = ("fifo",)) -> str:
    scheme, rest = _split(value)
    if scheme in schemes:
        return _decoded(name, value, re.split("[?#]", rest, maxsplit=1)[0])
    if scheme:
        raise InvalidArgument(f"{name} {value!r} must be a path or fifo:// with a path")
    if "\0" in value:
        raise InvalidArgument(f"{name} {value!r} contains a NUL byte")
    return value


def _stream_id(name: str, value: str) -> str:
    # The address in it is ours: it is for whoever dials, and not looked at.
    scheme, rest = _split(value)
    if not value:
        return ""
    found = parse_qs(rest.partition("#")[0].partition("?")[2]).get("streaming_id", [""])[0]
    if scheme != "ttrpc+unix" or not found:
        raise InvalidArgument(f"{name} {value!r} must be ttrpc+unix:// with a streaming_id")
    return found


def _decoded(name: str, value: str, path: str) -> str:
    """The percent-decoded ``path`` of ``value``; bytes that are no UTF-8 are kept as the file system's are."""
    path = unquote(path, errors="surrogateescape")
    if not path.startswith("/"):
        raise InvalidArgument(f"{name} {value!r} needs an absolute path after ://")
    if "\0" in path:
        raise InvalidArgument(f"{name} {value!r} contains a NUL byte")
    return path
