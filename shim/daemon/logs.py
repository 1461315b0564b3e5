"""Where the log goes: to stderr, which a daemon must not wait for.

stderr is shared with whoever started us, so its flags are not ours to change: a terminal or a pipe is opened a second time. A
socket, which is what journald gives, cannot be, and has no other reader of its flags; a file takes what it is given.

Source: open(2), proc(5), systemd.exec(5).
"""

from __future__ import annotations

import logging
import os
import stat

from shim.log import LineFormatter, NonBlockingHandler, setup

__all__ = ["log_to_stderr"]

_STDERR = 2


def log_to_stderr(*, debug: bool = False) -> None:
    """All log records of this process go to stderr, a line each, and none makes anybody wait."""
    mode = os.fstat(_STDERR).st_mode
    if stat.S_ISSOCK(mode):
        setup(_STDERR, debug=debug)
    elif stat.S_ISREG(mode):
        _log_to(_STDERR, debug=debug)
    else:
        try:
            fd = os.open(
                "/proc/self/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            )
        except OSError:  # another user's terminal, or no /proc
            fd = _STDERR
        _log_to(fd, debug=debug)
    # Uvicorn tells of every start, and of what clients do wrong, in lines that say less than ours.
    logging.getLogger("uvicorn").setLevel(logging.DEBUG if debug else logging.ERROR)
    logging.captureWarnings(True)


def _log_to(fd: int, *, debug: bool) -> None:
    handler = NonBlockingHandler(fd)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
