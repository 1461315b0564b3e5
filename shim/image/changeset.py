"""Layers applied to a root file system without umoci: a program, which root runs where there is none.

    python -m shim.image.changeset ROOT LAYER...

ROOT, an empty directory, becomes the root directory of the process before it looks at a name: whatever a layer says of links, it can
mean nothing but the image's own. It is the one thing that a user cannot do, so for users umoci is needed. The layers have been
looked through when they were imported; each is named with the digest that its tar is to have (``FILE=sha256:…``).

After the change of the root directory nothing may be imported, and no user or group be looked up by its name: both would
run what the image has in place of the host's libraries.

Source: image-spec layer.md (whiteouts are for the layers below alone, and come before what a layer adds); chroot(2); xattr(7).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument, ShimError, from_os_error
from shim.image.files import open_regular
from shim.image.limits import Limits
from shim.image.rules import OPAQUE, WHITEOUT, refusal
from shim.image.tar_stream import TarStream, members

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Sequence
    from io import BufferedReader

__all__ = ["apply", "main"]

_XATTR = "SCHILY.xattr."


def apply(root: str, layers: Sequence[tuple[BufferedReader, str]]) -> None:
    """``root`` is the root directory of this process, and has what the layers say; each comes with the digest of its tar.

    Raises:
        InvalidArgument: one is damaged, or another than it was.
        OSError: something cannot be made.
    """
    os.chroot(root)
    os.chdir("/")
    os.umask(0)
    for number, (file, digest) in enumerate(layers, 1):
        what = f"layer {number}"
        times: dict[str, int] = {}
        for entry in members(TarStream(file, Limits(), what), what):
            if os.path.basename(entry.name).startswith(WHITEOUT):
                _hide(entry.name, times)
        file.seek(0)
        stream = TarStream(file, Limits(), what)
        _add(stream, what, times)
        if stream.digest != digest:
            raise InvalidArgument(f"{what} holds {stream.digest}, and held {digest} when it was imported")
        for path, time_ns in times.items():
            with suppress(FileNotFoundError):  # something has replaced it
                os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)


def _place(name: str, times: dict[str, int]) -> str:
    """Where a name leads; the time of the directory is kept as it was before the layer."""
    path = os.path.normpath(f"/{name}")
    directory = os.path.realpath(os.path.dirname(path))
    with suppress(FileNotFoundError):
        times.setdefault(directory, os.lstat(directory).st_mtime_ns)
    return os.path.join(directory, os.path.basename(path))


def _hide(name: str, times: dict[str, int]) -> None:
    directory, _, base = _place(name, times).rpartition("/")
    with suppress(FileNotFoundError, NotADirectoryError):  # there may be nothing to hide
        hidden = os.listdir(f"{directory}/") if base == OPAQUE else [base.removeprefix(WHITEOUT)]
        for each in hidden:
            _remove(f"{directory}/{each}")


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _add(stream: TarStream, what: str, times: dict[str, int]) -> None:
    for entry in members(stream, what):
        if reason := refusal(entry):
            raise InvalidArgument(f"{what}, entry {entry.name!r} is refused: {reason}")
        if os.path.basename(entry.name).startswith(WHITEOUT):
            continue
        path = _place(entry.name, times)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if entry.islnk():
            source = _place(entry.linkname, times)
            _clear(path)
            os.link(source, path, follow_symlinks=False)
        else:
            _make(entry, path, stream)
            _describe(entry, path)
        if entry.isdir():
            times[path] = int(entry.mtime * 1_000_000_000)


def _clear(path: str) -> None:
    with suppress(FileNotFoundError):
        _remove(path)


def _make(entry: tarfile.TarInfo, path: str, stream: TarStream) -> None:
    if entry.isdir():
        if os.path.isdir(path) and not os.path.islink(path):
            return
        _clear(path)
        os.mkdir(path, 0o700)
        return
    _clear(path)
    if entry.issym():
        os.symlink(entry.linkname, path)
    elif entry.isfifo():
        os.mkfifo(path, 0o600)
    else:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.writelines(stream.pass_over(entry.size))


def _describe(entry: tarfile.TarInfo, path: str) -> None:
    # A change of the owner takes the set-user-ID bit and the capabilities away: they come after it.
    os.lchown(path, entry.uid, entry.gid)
    for key, value in entry.pax_headers.items():
        if key.startswith(_XATTR):
            data = value.encode("utf-8", "surrogateescape")
            os.setxattr(path, key.removeprefix(_XATTR), data, follow_symlinks=False)
    if not entry.issym():
        os.chmod(path, entry.mode & 0o7777)
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


def main(argv: Sequence[str]) -> int:
    """The exit code of the program; what failed is on stderr in one line."""
    root, *layers = argv
    try:
        with ExitStack() as stack:
            opened = []
            for layer in layers:
                path, _, digest = layer.rpartition("=")
                opened.append((stack.enter_context(open_regular(Path(path))), digest))
            apply(root, opened)
    except (ValueError, OverflowError) as error:
        print(f"a time or an owner is out of range: {error}", file=sys.stderr)  # noqa: T201 - the answer
        return 1
    except OSError as error:
        where = error.filename or "the system"
        wrong = f"an attribute of {where}" if error.errno == errno.ENOTSUP else where
        print(from_os_error(error, wrong), file=sys.stderr)  # noqa: T201 - the answer
        return 1
    except ShimError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the answer
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
