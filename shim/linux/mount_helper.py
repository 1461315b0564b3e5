"""File systems that a program of the host mounts: those of FUSE, types ``fuse.NAME`` and ``fuse3.NAME``.

mount.fuse(8) starts NAME, which mounts, goes into the background and serves the file system until it is unmounted. No
other helpers are run: a type comes from a client, and is not to choose a program.

The helper's exit status may be taken by whoever reaps the children of this process, and says nothing of the mount in
any case; mountinfo does.

Source: mount.fuse3(8); containerd core/mount/mount_linux.go.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from shim import _native
from shim.linux import mountinfo
from shim.linux.fd import OwnedFd
from shim.linux.memfd import memfd_create

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["has_helper", "mount_with_helper"]

_KINDS = ("fuse", "fuse3")
_DONE_S = 30.0
_WORDS = 500


def has_helper(fs_type: str) -> bool:
    """Whether this type is for ``mount_with_helper``."""
    kind, dot, _ = fs_type.partition(".")
    return bool(dot) and kind in _KINDS


def mount_with_helper(source: str, target: str, fs_type: str, options: Sequence[str]) -> None:
    """``source`` is mounted on ``target``, and served by a process that outlives us.

    Raises:
        OSError: ENOENT, there is no helper; ETIMEDOUT, it does not come to an end; EIO, it has not mounted anything, with
            its last words.
    """
    kind, _, name = fs_type.partition(".")
    helper = shutil.which(f"mount.{kind}")
    if helper is None:
        raise OSError(errno.ENOENT, f"mount.{kind} is needed, and not on PATH: apt-get install fuse3")
    flags = [word for option in options for word in ("-o", option)]
    before = _mounted(target)
    said = _run([helper, source, target, *flags, "-t", name])
    if _mounted(target) == before:
        raise OSError(errno.EIO, f"{helper} has not mounted it: {said or 'it says nothing'}")


def _mounted(target: str) -> set[int]:
    return {entry.mount_id for entry in mountinfo.read() if entry.mount_point == target}


def _run(argv: Sequence[str]) -> str:
    """What a program says until it ends; what it leaves in the background may hold its output for ever."""
    environment = [os.fsencode(f"{key}={value}") for key, value in os.environ.items()]
    with ExitStack() as stack:
        output = stack.enter_context(memfd_create("mount-helper"))
        null = stack.enter_context(OwnedFd(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)))
        fds = [null.fileno(), output.fileno(), output.fileno()]
        pid, pidfd = _native.spawn(
            [os.fsencode(word) for word in argv], environment, fds, cwd=b"/", setsid=True
        )
        process = stack.enter_context(OwnedFd(pidfd))
        poll = select.poll()
        poll.register(process.fileno(), select.POLLIN)
        ended = poll.poll(_DONE_S * 1000)
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        # The shim's own sweep of children may have been faster.
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, process.fileno(), os.WEXITED)
        if not ended:
            raise OSError(errno.ETIMEDOUT, f"{argv[0]} was killed after {_DONE_S:g} s")
        text = os.pread(output.fileno(), _WORDS, 0).decode("utf-8", "replace")
    return " ".join(text.split())
