"""Folders for unix sockets: the one that host and plugin share, and one that is the host's alone.

Source: hashicorp/go-plugin, UnixSocketConfig; unix(7): who may connect is who may write to the socket.
"""

from __future__ import annotations

import grp
import os
import secrets
import shutil
import socket
import stat
import tempfile

from shim.errors import FailedPrecondition, InvalidArgument, from_os_error
from shim.linux.fd import OwnedFd

__all__ = ["SocketFolder", "group_id"]

# sockaddr_un, without the NUL
_LONGEST = 107

# (gid_t)-1 means no group.
_LARGEST_ID = 2**32 - 2

# Go's has up to ten digits, as these have.
_RANDOM = 5


class SocketFolder:
    """A folder that exists until ``remove``, for us, and for a group if there is one."""

    def __init__(self, path: str, gid: int | None = None) -> None:
        self.path = path
        self._gid = gid

    @classmethod
    def make(cls, prefix: str, parent: str = "", group: str = "") -> SocketFolder:
        """A new one, in ``parent`` or where temporary files are.

        Raises:
            InvalidArgument: there is no such group, or the name is too long for sockets to be in it.
            ShimError: it cannot be made, or not be given to the group.
        """
        gid = group_id(group) if group else None
        try:
            folder = cls(tempfile.mkdtemp(prefix=prefix, dir=parent or None), gid)
        except OSError as error:
            raise from_os_error(error, "a folder for sockets cannot be made") from error
        try:
            folder._fit()
            folder._share(folder.path, 0o770, stat.S_IFDIR)
        except BaseException:
            folder.remove()
            raise
        return folder

    def new_path(self) -> str:
        """Where there is nothing yet; named as go-plugin names them."""
        return os.path.join(self.path, f"plugin{secrets.token_hex(_RANDOM)}")

    def listen(self, path: str) -> socket.socket:
        """A socket at ``path``, to which who may use the folder can connect; the caller owns it.

        Raises:
            ShimError: there can be none.
        """
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(path)
            self.share(path)
            listening.listen()
        except OSError as error:
            listening.close()
            raise from_os_error(error, f"socket {path}") from error
        except BaseException:
            listening.close()
            raise
        return listening

    def share(self, path: str) -> None:
        """The group, if there is one, can connect to the socket at ``path``.

        Raises:
            ShimError: it cannot be made so.
        """
        self._share(path, 0o660, stat.S_IFSOCK)

    def remove(self) -> None:
        """The folder is gone, and what was in it. Blocks."""
        # A plugin may remove its sockets at the same time.
        shutil.rmtree(self.path, ignore_errors=True)

    def _fit(self) -> None:
        longest = len(os.fsencode(self.new_path()))
        if longest > _LONGEST:
            raise InvalidArgument(
                f"{self.path} is too long: a socket in it would have {longest} bytes, unix sockets have {_LONGEST}"
            )

    def _share(self, path: str, mode: int, kind: int) -> None:
        if self._gid is None:
            return
        try:
            # By a descriptor, and whatever it is now: the plugin may write the folder, and put a link to a file of the host there.
            with OwnedFd(os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)) as fd:
                if stat.S_IFMT(os.fstat(fd.fileno()).st_mode) != kind:
                    raise FailedPrecondition(f"{path} is no socket any more")
                here = f"/proc/self/fd/{fd.fileno()}"
                os.chown(here, -1, self._gid)
                os.chmod(here, mode)
        except OSError as error:
            raise from_os_error(error, f"{path} cannot be given to group {self._gid}") from error


def group_id(group: str) -> int:
    """The number of ``group``, which is a name or a number.

    Raises:
        InvalidArgument: there is none of that name, or it can be no group's number.
    """
    if group.isascii() and group.isdecimal():
        if len(group) > len(str(_LARGEST_ID)) or int(group) > _LARGEST_ID:
            raise InvalidArgument(f"no group can have the number {group}")
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise InvalidArgument(f"there is no group {group!r}") from error
