"""A hook of the OCI runtime: the loopback of a container that is restored is up.

criu restores the network namespace of a container empty when runc runs it (runc says so to it: the network is the business of
whoever made it), with a loopback that is down. A connection that was open over it could not be restored then, nor would
anything find it that runs on. runc calls ``createRuntime`` hooks when the namespace is there, and before there is a process
in it.

Executed by its path, without the packages of the interpreter: it imports nothing of ours.

Source: runtime-spec config.md, "POSIX-platform Hooks"; setns(2), netdevice(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from typing import Any

__all__ = ["hook"]

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
# struct ifreq: the name, and a union of 24 bytes that begins with the flags.
_IFREQ = struct.Struct("16sh22x")


def hook() -> dict[str, Any]:
    """The hook, as config.json has it."""
    return {"path": sys.executable, "args": [sys.executable, "-I", "-S", os.path.abspath(__file__)]}


def _enter(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(fd, _CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _set_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        name, flags = _IFREQ.unpack(fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(name, flags | _IFF_UP))


if __name__ == "__main__":
    _enter(int(json.load(sys.stdin)["pid"]))
    _set_up()
