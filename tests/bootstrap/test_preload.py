"""What the template has before it forks, and what a shim forked from it need not do any more."""

from __future__ import annotations

import gc
import os
import sys

from shim.bootstrap import preload


def in_child(check) -> None:
    """``check`` is true in a fork of a preloaded process."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = int(not check())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _preloaded_child(check) -> bool:
    preload.preload()
    in_child(check)
    return True


def test_the_heap_is_frozen_for_the_children_of_a_preloaded_process():
    def frozen() -> bool:
        preload.after_fork()
        return gc.isenabled() and gc.get_freeze_count() > 10_000 and len(gc.get_objects()) < 100

    # In a child of its own: a frozen heap is no place for the other tests.
    in_child(lambda: _preloaded_child(frozen))


def test_the_modules_of_a_shim_are_there():
    assert {"shim.bootstrap.serve", "shim.bootstrap.delete", "shim.bootstrap.info"} <= sys.modules.keys()
