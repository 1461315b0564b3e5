"""What the template has done before it forks a shim, so that the shim need not: every module is there, and the heap is quiet.

A page is shared with the template until somebody writes to it. The collector writes into the header of every object that it
looks at; what is frozen it does not look at. Using an object writes its reference count; an immortal one has none.

Source: gc.freeze() in Python's documentation, PEP 683, fork(2).
"""

from __future__ import annotations

import gc

# Imported for their being imported: the whole of a shim's life, and what is imported only where it is used.
import shim.bootstrap.__main__
import shim.bootstrap.containerd
import shim.bootstrap.delete
import shim.bootstrap.info
import shim.cgroup.hierarchy  # noqa: F401
from shim.linux.immortal import immortalize

__all__ = ["after_fork", "preload"]


def preload() -> None:
    """The process is ready to be forked; the collector is off, and is on again in a child that calls ``after_fork``.

    For the template, once, before its first fork. What it makes later is not shared as well.
    """
    gc.disable()
    gc.collect()
    immortalize()
    gc.freeze()


def after_fork() -> None:
    """The collector looks at what this process has made itself."""
    gc.enable()
