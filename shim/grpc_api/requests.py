"""What a client may ask for, checked before anything is done."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shim.containers.task_client import Streams
from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from typing import Protocol

    class _Connected(Protocol):
        """CreateContainerRequest and AddProcessRequest."""

        stdin: str
        stdout: str
        stderr: str
        console: str


__all__ = ["absolute", "streams"]


def absolute(what: str, path: str) -> str:
    """``path``, which is absolute.

    Raises:
        InvalidArgument: it is not: relative to what?
    """
    if not os.path.isabs(path) or "\0" in path:
        raise InvalidArgument(f"{what} {path!r} must be an absolute path")
    return path


def streams(request: _Connected) -> Streams:
    """Where the streams of a process go; a console is both its input and its output.

    Raises:
        InvalidArgument: a path is not absolute, or there is a console and yet another place.
    """
    given = {"stdin": request.stdin, "stdout": request.stdout, "stderr": request.stderr}
    if request.console:
        if too_many := [name for name, path in given.items() if path]:
            raise InvalidArgument(
                f"with a console there is no {', '.join(too_many)}: leave out one or the other"
            )
        path = absolute("console", request.console)
        return Streams(path, path)
    return Streams(**{name: path and absolute(name, path) for name, path in given.items()})
