"""A user namespace that nobody is in, as a descriptor: what mount_setattr(2) takes its ids from.

A user namespace is made by a process that enters it, and a process with threads cannot: unshare(1) does, for a moment.
Source: user_namespaces(7), unshare(1).
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shim import _native
from shim.linux.fd import OwnedFd, pipe

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["IdRange", "user_namespace"]

_READY_MS = 10_000


class IdRange(NamedTuple):
    """``size`` ids from ``inside`` on in the namespace are those from ``outside`` on."""

    inside: int
    outside: int
    size: int


def user_namespace(uids: Sequence[IdRange], gids: Sequence[IdRange]) -> OwnedFd:
    """A new user namespace with these maps; it lives as long as the descriptor, or what was made with it.

    Raises:
        OSError: ENOENT, there is no unshare(1); EPERM, no user namespace may be made here; EINVAL, the kernel refuses a map.
    """
    program = shutil.which("unshare")
    if program is None:
        raise OSError(
            errno.ENOENT, "unshare of util-linux is needed to make a user namespace, and is not there"
        )
    with ExitStack() as stack:
        stdin, talk = map(stack.enter_context, pipe())
        answer, stdout = map(stack.enter_context, pipe())
        null = stack.enter_context(OwnedFd(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)))
        fds = [end.fileno() for end in (stdin, stdout, null)]
        environment = [os.fsencode(f"PATH={os.environ.get('PATH', os.defpath)}")]
        pid, pidfd = _native.spawn([os.fsencode(program), b"--user", b"cat"], environment, fds)
        stack.callback(_end, stack.enter_context(OwnedFd(pidfd)))
        stdout.close()
        _wait_for_echo(talk, answer)
        for name, ranges in (("uid_map", uids), ("gid_map", gids)):
            _write_map(f"/proc/{pid}/{name}", ranges)
        return OwnedFd(os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))


def _wait_for_echo(talk: OwnedFd, answer: OwnedFd) -> None:
    # What comes back has come through the program that unshare becomes once it is in the namespace.
    os.write(talk.fileno(), b".")
    poll = select.poll()
    poll.register(answer.fileno(), select.POLLIN)
    if not poll.poll(_READY_MS) or not os.read(answer.fileno(), 1):
        raise OSError(errno.EPERM, "no user namespace can be made here (see user.max_user_namespaces)")


def _write_map(file: str, ranges: Sequence[IdRange]) -> None:
    lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in ranges)
    try:
        Path(file).write_text(lines, encoding="ascii")
    except OSError as error:
        what = f"the kernel refuses the id map {lines.strip()!r}: {error.strerror}"
        raise OSError(error.errno, what) from error


def _end(child: OwnedFd) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(child.fileno(), signal.SIGKILL)
    # The shim's own sweep of children may have been faster.
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, child.fileno(), os.WEXITED)
