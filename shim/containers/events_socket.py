"""Where the events of containers go: to the daemon, over a socket that it has below the state directory.

Shims keep what nobody takes there, and tell it to the next daemon. Where there has been none since the host has started, a
shim has nobody to tell.
"""

from __future__ import annotations

import os

__all__ = ["events_address", "events_socket"]


def events_socket(state_root: str) -> str:
    """The path at which a daemon takes events."""
    return f"{state_root}/events.sock"


def events_address(state_root: str) -> str:
    """The path for a shim that is being started; empty where no daemon has been."""
    path = events_socket(state_root)
    # As shim/service/unsent.py has it; the package of services is too much for the command line to import.
    return path if os.path.isdir(f"{path}.unsent") else ""
