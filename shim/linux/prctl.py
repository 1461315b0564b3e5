"""What a process says about itself to the kernel, through python-prctl.

Source: prctl(2), PR_SET_CHILD_SUBREAPER and PR_SET_NAME.
"""

from __future__ import annotations

import prctl

__all__ = ["set_child_subreaper", "set_name"]


def set_child_subreaper() -> None:
    """Orphans among our descendants become our children: the container's init, once the runtime has ended."""
    prctl.set_child_subreaper(True)


def set_name(name: str) -> None:
    """The calling thread's ``comm``, as ps and top show it; the kernel keeps the first 15 bytes."""
    prctl.set_name(name)
