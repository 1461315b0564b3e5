"""As whom an image wants to run: its ``User``, looked up in its own /etc/passwd and /etc/group.

Both files are somebody else's. They are opened as a process in the image would open them, so that no link leads out, and what
is no line of theirs is passed over, as the C library does.

Source: passwd(5), group(5); moby sys/user, ``GetExecUser`` (what a number or a name means, and which groups come with it).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument, NotFound, from_os_error
from shim.image.files import as_regular
from shim.linux.paths import open_in_root

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["User", "resolve_user"]

_MOST = 4 << 20
_DIGITS = 20
# Up to the group in passwd, up to the members in group.
_LEAST = 4
_LAST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class User:
    """Numbers, as a process has them. The home directory is the runtime's to look up."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of passwd or group. ``rest`` is what follows the id."""

    name: str
    id: int
    rest: tuple[str, ...]


def resolve_user(rootfs: Path, user: str) -> User:
    """The numbers of ``USER[:GROUP]``, each a name or a number, in the image unpacked at ``rootfs``; root if it is empty.

    Without a group it is the user's own, with all the groups that have the user for a member.

    Raises:
        NotFound: the image does not know a name.
        InvalidArgument: a number is out of range, or a file in the image is no file.
        ShimError: one cannot be read.
    """
    wanted, _, wanted_group = user.partition(":")
    known = _entries(rootfs, "etc/passwd")
    entry = _match(known, wanted or "0")
    if entry is None:
        entry = _Entry("", _number(wanted or "0", "user"), ("0",))
    gid = _id(entry.rest[0]) or 0
    groups = _entries(rootfs, "etc/group")
    additional: tuple[int, ...] = ()
    if wanted_group:
        group = _match(groups, wanted_group)
        gid = _number(wanted_group, "group") if group is None else group.id
    elif entry.name:
        additional = tuple(dict.fromkeys(each.id for each in groups if entry.name in each.rest[0].split(",")))
    return User(_checked(entry.id), _checked(gid), tuple(map(_checked, additional)))


def _match(known: list[_Entry], wanted: str) -> _Entry | None:
    """By name first: a user may be called 1000."""
    for entry in known:
        if entry.name == wanted:
            return entry
    number = _id(wanted)
    return next((entry for entry in known if entry.id == number), None)


def _id(text: str) -> int | None:
    """The number that ``text`` is; of a long one so much that it is out of range."""
    return int(text[:_DIGITS]) if text.isascii() and text.isdecimal() else None


def _number(text: str, kind: str) -> int:
    number = _id(text)
    if number is None:
        raise NotFound(f"the image has no {kind} {text!r}")
    return _checked(number)


def _checked(number: int) -> int:
    if not 0 <= number <= _LAST_ID:
        raise InvalidArgument(f"{number} is no number of a user or a group; the last is {_LAST_ID}")
    return number


def _entries(rootfs: Path, path: str) -> list[_Entry]:
    found = []
    for line in _read(rootfs, path).decode("utf-8", "replace").splitlines():
        parts = line.split(":")
        if len(parts) >= _LEAST and (number := _id(parts[2])) is not None:
            found.append(_Entry(parts[0], number, tuple(parts[3:])))
    return found


def _read(rootfs: Path, path: str) -> bytes:
    try:
        # Not to wait for who writes into a FIFO of that name.
        with (
            open_in_root(rootfs, path, os.O_RDONLY | os.O_NONBLOCK) as fd,
            as_regular(fd, f"/{path} of the image") as file,
        ):
            return file.read(_MOST)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise from_os_error(error, f"/{path} of the image cannot be read") from error
