"""Who may connect to a unix socket of the daemon: its own user, root, and members of one group if there is one.

The kernel is asked (SO_PEERCRED, SO_PEERGROUPS), once, when the connection is accepted: the mode of the socket says the same,
but systemd or an administrator may have made it.

Source: unix(7).
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from shim.linux.sockets import PeerCredentials, peer_credentials, peer_groups

if TYPE_CHECKING:
    import socket

__all__ = ["Admission"]

_log = logging.getLogger(__name__)


class Admission(NamedTuple):
    """The rule. ``group`` is a gid, or None."""

    group: int | None = None

    def admit(self, sock: socket.socket) -> PeerCredentials | None:
        """Who is at the other end of ``sock``, or None if it may not be there; the log has who was refused."""
        peer = peer_credentials(sock)
        if peer.uid in {0, os.geteuid()} or self._is_member(sock, peer):
            return peer
        _log.warning(
            "refused a connection of pid %d: uid %d, gid %d may not use the daemon",
            peer.pid,
            peer.uid,
            peer.gid,
        )
        return None

    def _is_member(self, sock: socket.socket, peer: PeerCredentials) -> bool:
        return self.group is not None and (peer.gid == self.group or self.group in peer_groups(sock))
