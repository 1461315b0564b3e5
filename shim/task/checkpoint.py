"""Where criu leaves its log when a container is written to an image or read from one.

The image belongs to the client, who may store all that is in its directory; so criu works in a directory of the bundle,
which goes away. Its log is what explains a failure: then it stays in the bundle, and the error names it.

Source: containerd's runc shim, process/init.go (``criu-dump.log``).
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shim.errors import InvalidArgument, NotFound, ShimError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.runtime import CheckpointOptions
    from shim.task.bundle import Bundle

__all__ = ["check_image", "work_directory"]


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
        raise type(error)(f"{error} (see {kept})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
