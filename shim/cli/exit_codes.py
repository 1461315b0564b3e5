"""What the exit code of ocishim means.

A verb that runs something in the foreground ends with that thing's own code, so its own failures need codes of
their own: 125 and, where the runtime said that the command is the reason, 126 and 127, as shells and docker have it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from shim.errors import ShimError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "EPILOG",
    "ERROR",
    "INTERRUPTED",
    "OWN_FAILURE",
    "PIPE_CLOSED",
    "SIGNALLED",
    "USAGE",
    "Failure",
    "foreground",
]

ERROR = 1
USAGE = 2
OWN_FAILURE = 125
SIGNALLED = 128
"""And the number of the signal."""
INTERRUPTED = 130
PIPE_CLOSED = 141

EPILOG = """\b
Exit codes:
  0    done
  1    failed; one line on stderr says what, which value, and what to do
  2    the command line itself cannot be right
  run, start -a, attach and exec end as the process in the container did:
       its own code, or 128+n when signal n ended it (137 is also an OOM kill)
  125  ... or: ocishim, the shim or the runtime failed
  126  ... or: the command cannot be executed
  127  ... or: the command does not exist
  130  interrupted before there was anything to interrupt
  141  whoever read the output closed it
"""


class Failure(Exception):
    """An error that ends the program with ``exit_code``; the error itself is the ``__cause__``."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def foreground() -> Iterator[None]:
    """ShimErrors in here end the program with 125, 126 or 127."""
    try:
        yield
    except ShimError as error:
        # Late: the runtime's texts are of interest only once something has failed.
        from shim.runtime.failure import exec_exit_code  # noqa: PLC0415

        raise Failure(str(error), exec_exit_code(str(error)) or OWN_FAILURE) from error
