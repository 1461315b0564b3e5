"""Where the events of containers go: to the daemon, over a socket that it has below the state directory.

A daemon that was killed leaves its socket behind, and the next one takes its place: shims that were given the address keep
what nobody takes, and tell it then. Where there is no socket there is no daemon, and a shim has nobody to tell.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

__all__ = ["events_address", "events_socket"]


def events_socket(state_root: str) -> str:
    """The path at which a daemon takes events."""
    return f"{state_root}/events.sock"


def events_address(state_root: str) -> str:
    """The path for a shim that is being started; empty where no daemon has been."""
    path = events_socket(state_root)
    with suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            return path
    return ""
