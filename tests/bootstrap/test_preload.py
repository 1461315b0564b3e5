"""What the template has before it forks, and what a shim forked from it need not do any more."""

from __future__ import annotations

import gc
import sys

from support.forks import in_fork

from shim.bootstrap import preload


def test_the_collector_has_nothing_to_look_at_in_the_children_of_a_preloaded_process():
    def child() -> None:
        preload.after_fork()
        assert gc.isenabled()
        assert len(gc.get_objects()) < 100

    def template() -> None:
        assert len(gc.get_objects()) > 10_000
        preload.preload()
        in_fork(child)

    # In a child of its own: a frozen heap is no place for the other tests.
    in_fork(template)


def test_the_modules_of_a_shim_are_there():
    assert {"shim.bootstrap.serve", "shim.bootstrap.delete", "shim.bootstrap.info"} <= sys.modules.keys()
