"""Hearing of changes to files, as ``tail -f`` does.

The watch is on the file, not on its name: a file that is renamed or unlinked is still watched, and both wake the
watcher up, so that it can look at what the name means now.

Source: inotify(7).
"""

from __future__ import annotations

import os
from ctypes import c_char_p, c_int, c_uint32
from typing import TYPE_CHECKING, Self

from shim.linux.fd import OwnedFd
from shim.linux.libc import bind, encode, fail, get_errno

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

__all__ = ["FileWatch"]

IN_MODIFY = 0x2
# The link count counts: unlinking a file that somebody has open is no IN_DELETE_SELF yet.
IN_ATTRIB = 0x4
IN_MOVE_SELF = 0x800

_inotify_init1 = bind("inotify_init1", c_int)
_inotify_add_watch = bind("inotify_add_watch", c_int, c_char_p, c_uint32)


class FileWatch:
    """Readable (poll ``fileno()``) once one of the files was written to, renamed or unlinked since the last ``drain``.

    Raises:
        OSError: there is no such file; ENOSPC or EMFILE, the user has too many watches
            (``fs.inotify.max_user_watches``, ``max_user_instances``).
    """

    def __init__(self, *paths: StrOrBytesPath) -> None:
        raws = [encode(path) for path in paths]
        # IN_NONBLOCK and IN_CLOEXEC are defined as these.
        fd = _inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            fail(get_errno())
        self._fd = OwnedFd(fd)
        for raw in raws:
            if _inotify_add_watch(fd, raw, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF) < 0:
                error = get_errno()
                self._fd.close()
                fail(error, raw)

    def fileno(self) -> int:
        """The descriptor to poll; it stays ours."""
        return self._fd.fileno()

    def drain(self) -> bool:
        """Whether anything has happened since the last call; all of it is forgotten now."""
        happened = False
        while True:
            try:
                happened |= bool(os.read(self._fd.fileno(), 4096))
            except BlockingIOError:
                return happened

    def close(self) -> None:
        """Not watched any more; the second time nothing happens."""
        self._fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
