"""Resource limits of this process.

Man page: setrlimit(2).
"""

from __future__ import annotations

import resource

__all__ = ["raise_open_files"]


def raise_open_files() -> int:
    """We may have as many descriptors as the hard limit says; returns the soft limit that there was.

    That one is for the programs that we start: those with select(2) break where a descriptor can be 1024 or more, and a
    container has the limit of whoever started us, unless its bundle says another.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft
