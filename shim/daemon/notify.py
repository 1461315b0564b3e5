"""What systemd is told: ready, reloading, stopping.

Source: sd_notify(3), systemd.service(5) on Type=notify and Type=notify-reload.
"""

from __future__ import annotations

import logging
import os
import socket
import time

__all__ = ["Notifier"]

_log = logging.getLogger(__name__)


class Notifier:
    """Sends to the socket that ``NOTIFY_SOCKET`` names; without one it does nothing. Nothing that fails here ends the daemon."""

    def __init__(self, address: str | None = None) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "") if address is None else address

    def ready(self, status: str) -> None:
        """Clients are answered from now on."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` ends it."""
        # The time is what Type=notify-reload asks for: systemd must tell this from an earlier reload.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """No further connection is accepted."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is in the abstract namespace, which is spelt with a NUL.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), address)
        except OSError as error:
            _log.warning("systemd cannot be told %r: %s", text.partition("\n")[0], error.strerror)
