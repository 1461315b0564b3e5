"""TAP devices, which rtnetlink can delete but not make.

Source: Linux Documentation/networking/tuntap.rst; linux/if_tun.h.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

__all__ = ["make_tap"]

_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
# Without it an interface that is there already is taken over.
_IFF_TUN_EXCL: Final = 0x8000
_IFREQ = struct.Struct("16sH22x")


def make_tap(name: str) -> None:
    """The calling thread's network namespace has a TAP device ``name``, which stays when this process ends.

    Raises:
        OSError: EBUSY, the name is taken; EINVAL, it is no name; ENOENT, the kernel has no TUN driver.
    """
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(os.fsencode(name), _IFF_TAP | _IFF_NO_PI | _IFF_TUN_EXCL))
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    finally:
        os.close(fd)
