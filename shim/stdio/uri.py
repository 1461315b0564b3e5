"""What a client wrote into the stdin, stdout and stderr fields of Create and Exec.

Pure: parses and checks, opens nothing. The scheme is the stdout field's; stdin is always a FIFO.
Source: containerd core/runtime/v2 and pkg/cio, docs of the binary logger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from shim.errors import InvalidArgument

__all__ = ["Logger", "Streams"]


@dataclass(frozen=True, slots=True)
class Logger:
    """A ``binary://`` or ``binary-v2://`` logger: its program, and the arguments made of the query."""

    path: str
    args: tuple[str, ...]
    strict: bool
    """binary-v2: the logger must write a byte to its ready pipe; else closing that is enough."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams that one process wants. An empty string is a stream that nobody wants."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False

    def __post_init__(self) -> None:
        if self.kind == "binary":
            self.logger()
        for name in ("stdin", "stdout", "stderr"):
            value = getattr(self, name)
            if "\0" in value:
                raise InvalidArgument(f"{name} {value!r} contains a NUL byte")

    @property
    def kind(self) -> Literal["null", "path", "file", "binary"]:
        """How output leaves: nowhere, into FIFOs or existing files, into one new file, into a logger."""
        scheme, separator, _ = self.stdout.partition("://")
        if not separator:
            return "path" if self.stdout or self.stderr else "null"
        if scheme == "fifo":
            return "path"
        if scheme == "file":
            return "file"
        if scheme in {"binary", "binary-v2"}:
            return "binary"
        raise InvalidArgument(
            f"unknown STDIO scheme {scheme!r} in {self.stdout!r}; known: fifo, file, binary, binary-v2"
        )

    def output_path(self, name: Literal["stdout", "stderr"]) -> str:
        """The path of one output of kind "path" or "file"; empty where it is not wanted."""
        if name == "stderr" and self.terminal:
            return ""
        return _path(self.stdout if self.kind == "file" else getattr(self, name))

    @property
    def stdin_path(self) -> str:
        """The FIFO that stdin is read from; empty where there is none."""
        return _path(self.stdin)

    def logger(self) -> Logger:
        """The logger of kind "binary".

        Raises:
            InvalidArgument: its path is not absolute.
        """
        parts = urlsplit(self.stdout)
        path = unquote(parts.netloc + parts.path)
        if not path.startswith("/"):
            raise InvalidArgument(f"the logger of {self.stdout!r} needs an absolute path")
        first: dict[str, str] = {}
        for key, value in parse_qsl(parts.query, keep_blank_values=True):
            first.setdefault(key, value)
        args = tuple(word for key, value in first.items() for word in (key, value) if word or word is key)
        return Logger(path, args, strict=parts.scheme == "binary-v2")


def _path(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator:
        return value
    if not rest.startswith("/"):
        raise InvalidArgument(f"{value!r} needs an absolute path after {scheme}://")
    return unquote(urlsplit(value).path)
