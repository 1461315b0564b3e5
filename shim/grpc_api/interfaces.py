"""What the interfaces of a container's network namespace have counted.

/proc/PID/net/dev is opened once, and read anew for every look: the open file holds the namespace and not the pid, which may
be another process's later.

Man pages: proc(5), /proc/net/dev; pread(2).
"""

from __future__ import annotations

import os
from contextlib import suppress

from shim.linux.fd import OwnedFd
from shim.proto.first_api_pb2 import NetworkStats

__all__ = ["Interfaces", "parse"]

_HEADER_LINES = 2
# Where in a line after the name; between them are counters that the API has not.
_COLUMNS = {
    "rx_bytes": 0, "rx_Packets": 1, "Rx_errors": 2, "Rx_dropped": 3,
    "Tx_bytes": 8, "Tx_packets": 9, "Tx_errors": 10, "Tx_dropped": 11,
}  # fmt: skip
_READ_SIZE = 64 << 10


def parse(content: bytes) -> list[NetworkStats]:
    """One for each line of /proc/net/dev."""
    found = []
    for line in content.decode("utf-8", "replace").splitlines()[_HEADER_LINES:]:
        name, colon, numbers = line.partition(":")
        values = numbers.split()
        if colon and len(values) > max(_COLUMNS.values()):
            counters = {field: int(values[column]) for field, column in _COLUMNS.items()}
            found.append(NetworkStats(name=name.strip(), **counters))
    return found


class Interfaces:
    """Those of one network namespace; ``close`` at the end."""

    def __init__(self, file: OwnedFd | None) -> None:
        """Takes ownership of ``file``."""
        self._file = file

    @classmethod
    def of(cls, pid: int) -> Interfaces:
        """Those that process ``pid`` has to itself; none where its network is the host's, or the process is gone.

        The host's counters are the host's: they say nothing of one container.
        """
        with suppress(OSError):
            if not os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), os.stat("/proc/self/ns/net")):
                return cls(OwnedFd(os.open(f"/proc/{pid}/net/dev", os.O_RDONLY | os.O_CLOEXEC)))
        return cls(None)

    def read(self) -> list[NetworkStats]:
        """What they have counted up to now."""
        if self._file is None:
            return []
        content, offset = b"", 0
        # One read gives what fits into a page, and says nothing of the rest.
        while chunk := os.pread(self._file.fileno(), _READ_SIZE, offset):
            content += chunk
            offset += len(chunk)
        return parse(content)

    def close(self) -> None:
        """The namespace is not held any more. Idempotent."""
        if self._file is not None:
            self._file.close()
