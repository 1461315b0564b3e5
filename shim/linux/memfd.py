"""Files without a name, in memory: for what another process reads from, or writes to, a descriptor.

There is no path to choose, no disk that can be full, and nothing to remove; it is reachable for a child that has it
as descriptor N as ``/proc/self/fd/N``. Its pages are charged to the cgroup of whoever writes them.

Source: memfd_create(2), F_ADD_SEALS in fcntl(2).
"""

from __future__ import annotations

import fcntl
import os

from shim.linux.fd import OwnedFd

__all__ = ["forbid_growth", "memfd_create"]


def memfd_create(name: str, data: bytes = b"") -> OwnedFd:
    """A CLOEXEC memory file that holds ``data``, read from its beginning; ``name`` only shows in /proc."""
    file = OwnedFd(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
        os.lseek(file.fileno(), 0, os.SEEK_SET)
    except OSError:
        file.close()
        raise
    return file


def forbid_growth(file: OwnedFd) -> None:
    """From now on a write past the end fails with EPERM, for every process that holds the file, and for ever.

    Unlike the closed read end of a pipe this sends no SIGPIPE, which would kill a writer that meant no harm.
    """
    fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
