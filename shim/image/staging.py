"""Directories for work that is going on: nobody else's, gone at its end, cleared away by the next one where a crash left them.

The one who works holds the lock of its directory, which the kernel drops when it dies: so a directory that nobody holds is a remain.
It is made, and remains are looked for, under the lock of the directory above; otherwise one just made, and not yet held,
would be taken for one.

Source: flock(2).
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shim.linux.locks import is_locked, locked_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["clear", "staging"]

_PREFIX = ".work-"


@contextmanager
def staging(top: Path) -> Iterator[Path]:
    """A new directory below ``top``, mode 0700, until the end of the body.

    Raises:
        OSError: it cannot be made, or not be removed.
    """
    with ExitStack() as stack:
        with locked_directory(str(top)):
            clear(top)
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=top))
            stack.enter_context(locked_directory(str(made)))
            stack.callback(shutil.rmtree, made)  # before the lock is dropped
        yield made


def clear(top: Path) -> None:
    """No remains are below ``top``, whose lock the caller has.

    Raises:
        OSError: one cannot be removed.
    """
    for path in top.glob(f"{_PREFIX}*"):
        if not _is_held(path):
            # It may also be that its owner has removed it, and then dropped the lock, between our opening it and our look.
            with suppress(FileNotFoundError):
                shutil.rmtree(path)


def _is_held(path: Path) -> bool:
    try:
        return is_locked(str(path))
    except FileNotFoundError:  # by now its owner has removed it
        return True
