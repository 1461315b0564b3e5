"""From what a runtime prints to what a caller is told.

Runtimes have one exit code for everything, so the text decides. The patterns are what runc 1.1 and 1.3, crun 1.8 and
1.28, and runsc of 2022 and 2024 really print; the tests hold the sentences.

kubelet and CRI depend on one distinction above all: a container or process that is gone is NotFound, which they take
for success. runc's "container not running" therefore means NotFound for ``kill`` and FailedPrecondition elsewhere.

Source: containerd's runc shim (texts), google.rpc.Code.
"""

from __future__ import annotations

import re

from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ShimError,
    Unimplemented,
    Unknown,
)

__all__ = ["error_for", "exec_exit_code"]

_Table = tuple[tuple[re.Pattern[str], type[ShimError]], ...]


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_UNKNOWN_CONTAINER = _any(
    r"container (?:\S+ )?does not exist",
    r"loading (?:container|sandbox)\b.*: file does not exist",
    r"opening file `[^`]*/status`: No such file",  # crun 1.8
    r"cannot open directory [`'][^`']*[`']: No such file",  # crun delete
)
_PROCESS_GONE = _any(
    r"container not running",
    r"process not running",  # crun 1.28
    r"no such process",
    r"process already finished",
    r"container `[^`]*` is not running",
    r"sandbox is not running",
    r"in state stopped",
    r"connecting to control server at PID \d+",  # runsc, between the sandbox's end and its reaping
)
_WRONG_STATE = _any(
    r"not running",
    r"not paused",
    r"is paused",
    r"in a (?:paused|stopped) container",
    r"(?:that|which) has stopped",
    r"already running",
    r"that is not stopped",
    r"in state \w+",
    r"in \w+ state",  # runc checkpoint
    r"is not in `created`",
    r"container \S+ not started",
    r"/exec\.fifo`: No such file",  # crun, started twice
    r"connecting to control server at PID \d+",
)
_TAKEN = _any(r"container (?:with given ID |`[^`]*` )?already exists")
_BAD_ID = _any(r"invalid container ID", r"in the container ID")
_BAD_SIGNAL = _any(r"unknown signal", r"signal .*invalid argument")
_BAD_RESOURCES = _any(
    r"invalid argument", r"invalid character", r"cannot parse the data", r"cannot unmarshal"
)
_NO_SUCH_COMMAND = _any(r"^unknown command", r"^Usage: ", r"^No help topic")
_EXHAUSTED = _any(
    r"no space left on device",
    r"disk quota exceeded",
    r"cannot allocate memory",
    r"out of memory",
    r"too many open files",
    r"resource temporarily unavailable",
)

_ALWAYS: _Table = (
    (_BAD_ID, InvalidArgument),
    (_NO_SUCH_COMMAND, Unimplemented),
    (_EXHAUSTED, ResourceExhausted),
)
_EXISTING: _Table = (*_ALWAYS, (_UNKNOWN_CONTAINER, NotFound), (_WRONG_STATE, FailedPrecondition))

# Where a new container is made, "no such file" and "not running" are about its bundle, hooks and files.
_BY_VERB: dict[str, _Table] = {
    "create": (*_ALWAYS, (_TAKEN, AlreadyExists)),
    "restore": (*_ALWAYS, (_TAKEN, AlreadyExists)),
    "kill": (
        *_ALWAYS,
        (_BAD_SIGNAL, InvalidArgument),
        (_UNKNOWN_CONTAINER, NotFound),
        (_PROCESS_GONE, NotFound),
    ),
    "update": (*_EXISTING, (_BAD_RESOURCES, InvalidArgument)),
}
_BY_VERB["kill"] += ((_WRONG_STATE, FailedPrecondition),)

_COMMAND_NOT_FOUND = _any(
    r'exec: "[^"]*": executable file not found',  # runc
    r'exec: "[^"]*": stat .*: no such file or directory',
    r"executable file `[^`]*` not found",  # crun
    r'error finding executable ".*" in PATH',  # runsc
    r"failed to load \S.*: no such file or directory",
)
_COMMAND_NOT_EXECUTABLE = _any(
    r'exec: "[^"]*": (?:stat .*: )?(?:permission denied|is a directory|not a directory|exec format error)',  # runc
    r"open executable: ",  # crun 1.8
    r"exists but it is not executable",  # crun 1.28
    r"failed: open `[^`]*`: Not a directory",
    r"is not a regular file",
    r"executable file `[^`]*`.*: (?:Permission denied|Not a directory)",
    r"failed to load \S.*: (?:permission denied|is a directory|not a directory|exec format error)",  # runsc
)

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def error_for(verb: str, message: str) -> ShimError:
    """The error for a failed ``verb``; its text is ``OCI runtime <verb> failed: <message>``."""
    text = f"OCI runtime {verb} failed: {message}"
    for pattern, error in _BY_VERB.get(verb, _EXISTING):
        if pattern.search(message):
            return error(text)
    return Unknown(text)


def exec_exit_code(message: str) -> int | None:
    """What a shell would exit with: 127 where the program does not exist, 126 where it cannot be run.

    None when ``message``, the text of a failed create, start or exec, is about something else.
    """
    if _COMMAND_NOT_EXECUTABLE.search(message):
        return _NOT_EXECUTABLE
    if _COMMAND_NOT_FOUND.search(message):
        return _NOT_FOUND
    return None
