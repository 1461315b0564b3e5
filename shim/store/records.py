"""Records: one JSON object a file, replaced as a whole.

A crash or a power cut at any moment leaves the old record or the new one, never a mixture: the new one is written
beside it, synced, renamed over it, and the directory synced, because a rename is not on disk before its directory is.
What a crash can leave behind is a file ``.NAME.PID.N.new`` in the same directory, which nobody reads.

Not ``synced``, all that holds for the crash of a process only: for what a reboot makes void, such as what is to be cleared
away of a running container. fsync(2) is what costs, 0.3 ms on a quick disk.

Who writes a record owns it; two writers at once are safe, the later rename wins. All calls may block for as long as
the storage does; ``asave`` and ``adelete`` then block a thread of their own instead of the event loop. On a file system in
memory, where records usually are, nothing blocks, and a thread would cost more than the call. The file has the members of
the record and ``schema``, the version of this format.

Source: rename(2), fsync(2).
"""

from __future__ import annotations

import itertools
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.errors import DataLoss, FailedPrecondition, NotFound, from_os_error
from shim.linux.statfs import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["SCHEMA", "adelete", "asave", "delete", "load", "parse", "save"]

SCHEMA = 1

_counter = itertools.count()


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Without the name: it may be that of the temporary file, which says nothing to anybody.
        raise from_os_error(OSError(error.errno, error.strerror), what) from error


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(path: Path, body: bytes, *, synced: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(body)
        file.flush()
        if synced:
            os.fsync(fd)


def save(path: str | Path, record: Mapping[str, Any], *, synced: bool = True) -> None:
    """``record`` is on disk at ``path``, mode 0600, in place of what was there.

    Raises:
        ShimError: it could not be written (ResourceExhausted on a full disk, …); the old record is still there. After
            a failed sync of the directory it may also be the new one.
        ValueError: it is no JSON object, or has a member ``schema``.
    """
    if "schema" in record:
        raise ValueError("the member 'schema' of a record is the store's own")
    target = Path(path)
    body = json.dumps({"schema": SCHEMA, **record}, indent=1, allow_nan=False).encode("ascii") + b"\n"
    fresh = target.with_name(f".{target.name}.{os.getpid()}.{next(_counter)}.new")
    with _translated(f"cannot save {target}"):
        try:
            _write(fresh, body, synced=synced)
            fresh.rename(target)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        if synced:
            _sync_directory(target.parent)


def load(path: str | Path) -> dict[str, Any]:
    """The record at ``path``.

    Raises:
        NotFound: there is none.
        DataLoss: the file is no record.
        FailedPrecondition: a newer ocishim wrote it.
        ShimError: it cannot be read.
    """
    target = Path(path)
    with _translated(f"cannot read {target}"):
        try:
            body = target.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{target} does not exist") from None
    return parse(body, str(target))


def parse(body: bytes, what: str) -> dict[str, Any]:
    """The record in ``body``; ``what`` names it in errors.

    Raises:
        DataLoss: it is none.
        FailedPrecondition: a newer ocishim wrote it.
    """
    try:
        record = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataLoss(f"{what} is broken, it is not JSON ({error})") from error
    schema = record.pop("schema", None) if isinstance(record, dict) else None
    if not isinstance(schema, int):
        raise DataLoss(f"{what} is broken, it is not a record")
    if schema > SCHEMA:
        raise FailedPrecondition(
            f"{what} has schema {schema} of a newer ocishim, this one reads up to {SCHEMA}"
        )
    return dict(record)


def delete(path: str | Path, *, synced: bool = True) -> None:
    """There is no record at ``path``, also after a crash; it is no error when there was none.

    Raises:
        ShimError: it could not be removed.
    """
    target = Path(path)
    with _translated(f"cannot delete {target}"):
        try:
            target.unlink()
        except FileNotFoundError:
            return
        if synced:
            _sync_directory(target.parent)


async def asave(path: str | Path, record: Mapping[str, Any], *, synced: bool = True) -> None:
    """As ``save``; it is done when this returns, also to who is cancelled."""
    await _off_the_loop(Path(path).parent, lambda: save(path, record, synced=synced))


async def adelete(*paths: Path, synced: bool = True) -> None:
    """As ``delete`` of each, in one directory; it is done when this returns, also to who is cancelled."""

    def call() -> None:
        for path in paths:
            delete(path, synced=synced)

    await _off_the_loop(paths[0].parent, call)


async def _off_the_loop(directory: Path, call: Callable[[], None]) -> None:
    if _never_blocks(directory):
        call()
    else:
        from shim.process.thread import in_thread  # noqa: PLC0415 - the command line reads records without asyncio

        await in_thread(call, always=True)


def _never_blocks(directory: Path) -> bool:
    try:
        return in_memory(directory)
    except OSError:
        return False
