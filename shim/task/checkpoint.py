"""Images of containers: how they are to be read again, and where criu leaves its log.

criu has to be told when it reads what it was told when it wrote, such as that there are open connections. So that whoever
has an image need not know it, a note of it is left among criu's files when they are complete.

The image belongs to the client, who may store all that is in its directory; so criu works in a directory of the bundle,
which goes away. Its log is what explains a failure: then it stays in the bundle, and the error names it.

Source: containerd's runc shim, process/init.go (``criu-dump.log``).
"""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shim.errors import DataLoss, InvalidArgument, NotFound, ShimError, from_os_error
from shim.store import records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.runtime import CheckpointOptions
    from shim.task.bundle import Bundle

__all__ = ["IMAGE_NOTE", "as_written", "check_image", "leave_note", "work_directory"]

IMAGE_NOTE = "ocishim.json"
"""In an image that is complete."""
_NOTED = ("tcp_established", "external_unix_sockets", "shell_job", "file_locks")
_CRIU_ERROR = re.compile(rb"\bError \([^)]*\): *(.*)")
_LAST_ERRORS = 4
_MAX_ERROR = 200


def check_image(options: CheckpointOptions) -> None:
    """Nothing, when there is a directory that may be an image.

    Raises:
        InvalidArgument: the path is not absolute: relative to what?
        NotFound: there is no such directory.
    """
    if not os.path.isabs(options.image_path):
        raise InvalidArgument(f"checkpoint {options.image_path!r} must be an absolute path")
    if not Path(options.image_path).is_dir():
        raise NotFound(f"checkpoint {options.image_path} does not exist")


def leave_note(options: CheckpointOptions) -> None:
    """The image has a note of how it has to be read.

    Raises:
        ShimError: it cannot be written.
    """
    records.save(
        Path(options.image_path, IMAGE_NOTE), {name: True for name in _NOTED if getattr(options, name)}
    )


def as_written(options: CheckpointOptions) -> CheckpointOptions:
    """``options`` with what the note in the image says, if there is one.

    Raises:
        DataLoss: it is broken.
        ShimError: it cannot be read.
    """
    try:
        note = records.load(Path(options.image_path, IMAGE_NOTE))
    except NotFound:
        return options
    if not set(note) <= set(_NOTED) or not all(value is True for value in note.values()):
        raise DataLoss(f"{IMAGE_NOTE} in checkpoint {options.image_path} has other members than such a note")
    return replace(options, **note)


@contextmanager
def work_directory(
    bundle: Bundle, options: CheckpointOptions, log: Literal["dump", "restore"]
) -> Iterator[CheckpointOptions]:
    """``options`` with a directory for criu's work, unless the client has named one; it is gone afterwards.

    Raises:
        ShimError: what went wrong inside, naming the log where it is now.
    """
    if options.work_path:
        yield options
        return
    work, kept = bundle.path / ".criu", bundle.criu_log(log)
    kept.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(mode=0o700)
    except OSError as error:
        raise from_os_error(error, f"the directory of criu's logs cannot be made in {bundle.path}") from error
    try:
        yield replace(options, work_path=str(work))
    except ShimError as error:
        try:
            (work / f"{log}.log").replace(kept)
        except OSError:  # it did not come to criu
            raise error from None
        raise type(error)(f"{error}{_errors(kept)} (see {kept})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _errors(log: Path) -> str:
    """What criu complains of, which runtimes do not pass on: the cause, and before it what was none."""
    found: deque[str] = deque(maxlen=_LAST_ERRORS)
    with suppress(OSError), log.open("rb") as lines:
        for line in lines:
            if error := _CRIU_ERROR.search(line):
                found.append(error[1][:_MAX_ERROR].decode("utf-8", "replace").strip(" ."))
    return "".join(f"; {each}" for each in found)
