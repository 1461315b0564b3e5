"""The process that holds a pod's namespaces where the pod has ids of its own: it is in the pod's user namespace.

A process of one thread can enter a user namespace, and a shim has more. nsenter(1), unshare(1) and setpriv(1) do what is
asked for, one after the other, each executing the next; between them a shell sets the sysctls (those of ipc may be set by
the root of their namespace alone). The last is a shell, which prints the pid that it has on this host: the sign that all is
there. When its root directory has been taken away, it executes what it finds in the new one. Where a pid namespace is made,
unshare has to stay behind as the parent of its first process; it is killed then, and the process becomes our child, as an
orphan's orphan does.

Source: nsenter(1), unshare(1), setpriv(1), user_namespaces(7), pid_namespaces(7).
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from shim import _native
from shim.errors import InvalidArgument, Unavailable
from shim.linux.fd import OwnedFd, pipe
from shim.linux.namespaces import owning_user_namespace
from shim.linux.user_namespace import IdRange, user_namespace
from shim.process.reaper import which

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["IdMaps", "start_mapped"]

_READY_S = 10.0
_USER_FD, _GO_FD = 3, 4
# Its arguments are pairs of a file below /proc/sys and its new content, and what they are followed by.
_SETTINGS = """
set -e
while [ "$1" != -- ]; do printf '%s\\n' "$2" > "/proc/sys/$1"; shift 2; done
shift
exec "$@"
"""
# /proc is this host's, so it shows the shell's pid here. What is executed has neither the namespace nor a pipe open.
_LAST = f"""
read -r pid rest < /proc/self/stat
echo $pid
exec {_USER_FD}<&- >&0 2>&0
read -r go <&{_GO_FD}
exec {_GO_FD}<&-
exec "$1"
"""
_HARMLESS = ("setpriv", "--no-new-privs", "--securebits=+noroot,+noroot_locked")
_ENVIRONMENT = (b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


class IdMaps(NamedTuple):
    """The ids of a user namespace."""

    uids: tuple[IdRange, ...]
    gids: tuple[IdRange, ...]

    def root(self) -> tuple[int, int]:
        """User and group outside that are root inside.

        Raises:
            InvalidArgument: nobody is.
        """
        found = [next((r.outside for r in ranges if r.inside == 0 and r.size), -1) for ranges in self]
        if min(found) < 0:
            raise InvalidArgument("the user namespace of a pod must have a root: neither map may lack id 0")
        return found[0], found[1]


def start_mapped(
    maps: IdMaps,
    sysctls: Mapping[str, str],
    program: str,
    prepare: Callable[[int], None],
    *,
    ipc: bool,
    uts: bool,
    pids: bool,
) -> int:
    """``program`` runs in the user namespace that owns this thread's network, else in a new one of ``maps``.

    The other namespaces that are asked for, and one of mounts, are new, belong to it, and have these ``sysctls``. ``prepare``
    is called with the pid before the program is looked up and executed, without any capability. Returns the pid; it is a
    child of ours or, under a subreaper, an orphan that comes to us.

    Raises:
        InvalidArgument: ``maps`` have no root.
        OSError: the kernel refuses, or there is no unshare(1).
        Unavailable: the programs failed; with what they said.
    """
    maps.root()
    made = [flag for flag, asked in (("--ipc", ipc), ("--uts", uts), ("--pid", pids)) if asked]
    fork = ["--fork"] if pids else []
    settings = [word for name, value in sysctls.items() for word in (name.replace(".", "/"), value)]
    argv = [which("nsenter"), f"--user=/proc/self/fd/{_USER_FD}", "unshare", "--mount", *made, *fork]
    argv += ["sh", "-c", _SETTINGS, "sh", *settings, "--", *_HARMLESS, "sh", "-c", _LAST, "sh", program]
    with ExitStack() as stack:
        user = stack.enter_context(_user_namespace(maps))
        answer, output = map(stack.enter_context, pipe())
        go, going = map(stack.enter_context, pipe())
        null = stack.enter_context(OwnedFd(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)))
        fds = [end.fileno() for end in (null, output, output, user, go)]
        started, pidfd = _native.spawn(
            [os.fsencode(word) for word in argv], _ENVIRONMENT, fds, cwd=b"/", setsid=True
        )
        first = stack.enter_context(OwnedFd(pidfd))
        output.close()
        try:
            pid = _told_pid(answer)
            prepare(pid)
            os.write(going.fileno(), b"\n")
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(started, signal.SIGKILL)
            raise
        if pid != started:
            _kill(first)
        return pid


def _user_namespace(maps: IdMaps) -> OwnedFd:
    with OwnedFd(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)) as network:
        owner = owning_user_namespace(network.fileno())
    if os.fstat(owner.fileno()).st_ino != os.stat("/proc/self/ns/user").st_ino:
        return owner
    owner.close()
    return user_namespace(maps.uids, maps.gids)


def _told_pid(answer: OwnedFd) -> int:
    said = b""
    poll = select.poll()
    poll.register(answer.fileno(), select.POLLIN)
    while poll.poll(_READY_S * 1000) and (part := os.read(answer.fileno(), 4096)):
        said += part
        if said.endswith(b"\n") and said.strip().isdigit():
            return int(said)
    words = " ".join(said.decode("utf-8", "replace").split())
    raise Unavailable(f"nobody can hold the namespaces of the pod: {words or 'no answer'}")


def _kill(process: OwnedFd) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.fileno(), signal.SIGKILL)
    # The shim's own sweep of children may have been faster.
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, process.fileno(), os.WEXITED)
